"""The history of a run, put in order: which rows of its metrics stand, and in which sessions it ran."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

_STARTS = ("start", "resume")
_BACK = (*_STARTS, "rollback")
"""Events after which steps go on from the event's `step`."""


@dataclass(frozen=True)
class Session:
    """One start of the job, up to the last thing known of it."""

    event: str
    """`start`, or `resume` from a checkpoint."""
    step: int
    """Step it went on from."""
    world_size: int | None
    """Number of ranks."""
    started: float
    """Seconds since 1970."""
    ended: float
    """When it was last heard of, in seconds since 1970."""
    last_step: int
    """The last step known to be done."""
    reason: str | None
    """Why it ended; None if it was killed or still runs."""


def standing_rows(rows: Sequence[Row], events: Sequence[Row], key: str) -> list[Row]:
    """The rows that have `key`, one per step, in order of steps.

    After a resume or a rollback steps are done again: the later row of a step counts, and a row from before is void as
    soon as its step was done again, even if that step was not logged the second time.
    """
    starts = [(event["time"], event["step"]) for event in events if event["event"] in _BACK]
    kept = [row for row in rows if row.get(key) is not None]
    for time, step in starts:
        again = max((row["step"] for row in kept if row["time"] >= time), default=step)
        kept = [row for row in kept if row["time"] >= time or not step < row["step"] <= again]
    return sorted({row["step"]: row for row in kept}.values(), key=lambda row: row["step"])


@dataclass(frozen=True)
class Stretch:
    """Steps that follow each other: from a start, a resume or a rollback to the next one."""

    event: str
    """`start`, `resume` or `rollback`."""
    step: int
    """Step it goes on from."""
    rows: tuple[Row, ...]
    """What was logged of its steps, in their order."""


def stretches(rows: Sequence[Row], events: Sequence[Row]) -> list[Stretch]:
    """The stretches of a run, oldest first, with the rows that tell how long steps took."""
    starts = [event for event in events if event["event"] in _BACK]
    ends = [*(event["time"] for event in starts[1:]), float("inf")][: len(starts)]
    timed = [row for row in rows if row.get("perf/step_seconds") is not None]
    return [
        Stretch(start["event"], start["step"], tuple(row for row in timed if start["time"] <= row["time"] < end))
        for start, end in zip(starts, ends, strict=True)
    ]


def sessions(rows: Sequence[Row], events: Sequence[Row]) -> list[Session]:
    """The sessions of a run, oldest first."""
    starts = [event for event in events if event["event"] in _STARTS]
    ends = [*(event["time"] for event in starts[1:]), float("inf")][: len(starts)]
    return [_session(start, end, rows, events) for start, end in zip(starts, ends, strict=True)]


def _session(start: Row, before: float, rows: Sequence[Row], events: Sequence[Row]) -> Session:
    within = [entry for entry in (*rows, *events) if start["time"] <= entry["time"] < before]
    reasons = [entry["reason"] for entry in within if entry.get("event") == "end"]
    return Session(
        event=start["event"],
        step=start["step"],
        world_size=start.get("world_size"),
        started=start["time"],
        ended=max(entry["time"] for entry in within),
        last_step=max(entry["step"] for entry in within if "step" in entry),
        reason=reasons[-1] if reasons else None,
    )
