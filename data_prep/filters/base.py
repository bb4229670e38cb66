"""What a filter is: a function of a text and its metadata that gives the text back, changed or not, or drops it."""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Dropped:
    """A document that goes."""

    reason: str
    """One or two words for the funnel, such as `too_short`; the filter's name is put before it."""


@dataclass(frozen=True)
class HeldOutSet:
    """N-grams of the held-out documents of earlier sources, which a later one may not hold."""

    digest: str
    """Checksum over them."""
    ngram: int
    """Words in an n-gram."""
    max_share: float
    """Largest share of a document's n-grams that may be in common."""
    path: str = field(compare=False)
    """Their file, relative to the work folder."""


Filter = Callable[[str, MutableMapping[str, str]], str | Dropped]
"""(text, metadata) -> text or Dropped. It may add to the metadata; it holds no state from one document to the next."""
