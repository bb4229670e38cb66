"""What a filter is: a function of a text and its metadata that gives the text back, changed or not, or drops it."""

from collections.abc import Callable, MutableMapping, Sequence
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
    """A document goes if more than this share of its n-grams are held out, or of a held-out document's are in it."""
    path: str = field(compare=False)
    """Their file, relative to the work folder."""


Filter = Callable[[str, MutableMapping[str, str]], str | Dropped]
"""(text, metadata) -> text or Dropped. It may add to the metadata; it holds no state from one document to the next."""


def apply_all(
    filters: Sequence[tuple[str, Filter]], text: str, metadata: MutableMapping[str, str]
) -> tuple[str, str | None]:
    """A text behind all filters, in their order, and why it is dropped, such as `cleaning:too_short`; None if it stays.

    A text that is dropped is as the filter that dropped it saw it.
    """
    for name, filter_ in filters:
        left = filter_(text, metadata)
        if isinstance(left, Dropped):
            return text, f"{name}:{left.reason}"
        text = left
    return text, None
