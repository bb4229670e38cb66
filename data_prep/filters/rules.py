"""Filters that only drop: reasons are looked for one after the other, and the first one ends the search."""

from collections.abc import Callable, Iterable, Iterator, MutableMapping

from data_prep.filters.base import Dropped, Filter


def by_rules(find_reasons: Callable[[str], Iterator[str]]) -> Filter:
    """A filter that drops a text for the first reason that a generator yields, and keeps it if there is none."""

    def judge(text: str, metadata: MutableMapping[str, str]) -> str | Dropped:
        reason = next(find_reasons(text), None)
        return text if reason is None else Dropped(reason)

    return judge


def share(part: float, whole: float) -> float:
    """Part of a whole; 0 of nothing."""
    return part / whole if whole else 0.0


def count_repeats(parts: Iterable[str]) -> tuple[int, int]:
    """How many parts came before in the sequence, and how many characters these have."""
    seen = set[str]()
    num_repeats, characters = 0, 0
    for part in parts:
        if part in seen:
            num_repeats += 1
            characters += len(part)
        seen.add(part)
    return num_repeats, characters
