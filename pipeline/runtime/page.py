"""A self-contained HTML page: a head with key figures, and sections. It needs no network, to write or to read."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from pipeline.errors import RunError
from pipeline.runtime.files import write_text
from pipeline.runtime.markup import facts


@dataclass(frozen=True)
class Page:
    """What a page shows."""

    kind: str
    """What it is: `run report`."""
    title: str
    """Whose."""
    state: str
    """One line below the title."""
    figures: Sequence[tuple[str, str]]
    """Names and values of the key figures."""
    sections: Sequence[str]
    """Markup, one section each."""
    style: str = ""
    """CSS beyond that of every page."""
    script: str = ""
    """JavaScript beyond that of every page."""


def render_page(page: Page) -> str:
    """The whole page as HTML text. What UTF-8 cannot hold, lone surrogates, becomes a question mark."""
    text = Template(template("pipeline.runtime", "page.html")).substitute(
        kind=escape(page.kind),
        title=escape(page.title),
        state=escape(page.state),
        figures=facts(page.figures, "figures"),
        sections="\n".join(page.sections),
        style=template("pipeline.runtime", "page.css") + page.style,
        script=template("pipeline.runtime", "theme.js") + page.script,
    )
    return text.encode("utf-8", "replace").decode("utf-8")


def write_page(path: Path, text: str) -> None:
    """Write a page, whole or not at all. Raises RunError if it cannot be written."""
    try:
        write_text(path, text)
    except OSError as error:
        raise RunError(f"report {path} cannot be written ({error.strerror}); choose another --output") from error


def template(package: str, name: str) -> str:
    """The text of a file in the `templates` folder of a package."""
    return (resources.files(package) / "templates" / name).read_text(encoding="utf-8")
