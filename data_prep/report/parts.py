"""Pieces of markup that several sections are made of."""

from collections.abc import Callable, Sequence
from html import escape

from data_prep.report.collect import SourceFacts
from pipeline.runtime.markup import fold, paragraph

MAX_CHARACTERS = 600
"""Characters shown of a text."""


def panels(sources: Sequence[SourceFacts], content: Callable[[SourceFacts], str], empty: str) -> str:
    """Side by side what `content` says of each source; those of which it says nothing are left out.

    Where it says nothing of any, the sentence `empty`.
    """
    told = [(source.name, markup) for source in sources if (markup := content(source))]
    panel = "".join(f'<div class="panel">{heading(name)}{markup}</div>' for name, markup in told)
    return f'<div class="panels">{panel}</div>' if panel else paragraph(empty)


def heading(name: str) -> str:
    """The name of a source."""
    return f"<h3><code>{escape(name)}</code></h3>"


def sample(about: str, text: str) -> str:
    """How a text begins, with a line about it."""
    caption = f"<figcaption>{escape(about)}</figcaption>" if about else ""
    return f'<figure class="sample">{caption}<pre>{escape(clipped(text, MAX_CHARACTERS))}</pre></figure>'


def clipped(text: str, limit: int) -> str:
    """At most so many characters, and an ellipsis if there were more."""
    return text if len(text) <= limit else f"{text[:limit]} …"


def first_of(figures: Sequence[str], shown: int) -> str:
    """Some markup as it is, the rest folded away."""
    rest = figures[shown:]
    return "".join(figures[:shown]) + (fold(f"{len(rest)} more", "".join(rest)) if rest else "")
