"""What a filter is: a function of a text and its metadata that gives the text back, changed or not, or drops it."""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dropped:
    """A document that goes."""

    reason: str
    """One or two words for the funnel: `too_short`, `url:domain`."""


Filter = Callable[[str, MutableMapping[str, str]], str | Dropped]
"""(text, metadata) -> text or Dropped. It may add to the metadata; it holds no state from one document to the next."""
