"""Sums of what tasks counted."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

Name = TypeVar("Name", str, int)


def total(counts: Iterable[Mapping[Name, int]]) -> dict[Name, int]:
    """The sum of several counts, by name."""
    added = Counter[Name]()
    for count in counts:
        added.update(count)
    return dict(sorted(added.items()))
