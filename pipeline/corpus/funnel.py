"""The funnel: how many records of a source each step took, and how many it left."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_DEDUPLICATION = {"duplicate": "exact duplicates", "near_duplicate": "near-duplicates"}
"""Reasons of the last steps, and what these are called."""

_COUNTS = ("skipped", "rejected", "dropped")


@dataclass(frozen=True)
class Step:
    """Something that records do not all pass."""

    name: str
    """`rejected`, `skipped`, the name of a filter, or a kind of duplicates."""
    reasons: dict[str, int]
    """Records it took, by reason; the reason is empty where the step has but one."""
    left: int
    """Records that passed."""

    @property
    def lost(self) -> int:
        """Records it took."""
        return sum(self.reasons.values())


@dataclass(frozen=True)
class Funnel:
    """What became of a source's records."""

    records: int
    """All that were met: those that were read, and those skipped because they are no documents."""
    steps: list[Step]
    """In the order in which records meet them."""
    kept: int
    """Documents in the corpus."""


def funnel(figures: Mapping[str, Any]) -> Funnel:
    """The funnel of one source, from its figures in the manifest."""
    skipped: dict[str, int] = figures.get("skipped", {})
    rejected: dict[str, int] = figures.get("rejected", {})
    taken = [("skipped", skipped), ("rejected", rejected), *_by_filter(figures).items()]
    left = records = figures.get("read", 0) + sum(skipped.values())
    steps = []
    for name, reasons in taken:
        left -= sum(reasons.values())
        if reasons:
            steps.append(Step(name, reasons, left))
    return Funnel(records, steps, figures.get("kept", left))


def _by_filter(figures: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Filter -> reason -> documents, from `filter:reason` -> documents; duplicates come last."""
    places = {name: place for place, name in enumerate(figures.get("steps", ()))}
    last = len(places)  # of an appended source, `held_out`
    places |= dict.fromkeys(_DEDUPLICATION, last + 1)
    dropped: dict[str, int] = figures.get("dropped", {})
    steps: dict[str, dict[str, int]] = {}
    for reason in sorted(dropped, key=lambda reason: (places.get(reason.partition(":")[0], last), reason)):
        name = _DEDUPLICATION.get(reason, reason.partition(":")[0])
        steps.setdefault(name, {})[reason.partition(":")[2]] = dropped[reason]
    return steps


def added(figures: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of several sources as if they were one."""
    figures = list(figures)
    steps = list(dict.fromkeys(step for one in figures for step in one.get("steps", ())))
    total: dict[str, Any] = {"steps": steps, "read": 0, "kept": 0} | {name: Counter() for name in _COUNTS}
    for one in figures:
        for name in ("read", "kept"):
            total[name] += one.get(name, 0)
        for name in _COUNTS:
            total[name].update(one.get(name, {}))
    return total
