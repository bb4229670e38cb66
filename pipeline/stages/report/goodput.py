"""Goodput: which share of a run's wall time went into steps that count, and what the rest went into."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pipeline.runtime.bars import Bar, bars
from pipeline.runtime.markup import NONE_YET, duration, paragraph, percent, section
from pipeline.stages.report.collect import RunReport
from pipeline.stages.report.history import Stretch, stretches

COUNTS = "steps that count"
_REDONE = {"start": "steps done again after a restart", "resume": "steps done again after a restart",
           "rollback": "steps that a rollback left behind"}  # fmt: skip
_REST = "starting up, steps not logged, and the rest"
_FORMULA = (
    "Goodput = seconds of the steps that count ÷ seconds from the first start to the last entry. A step counts if the"
    " run did not go back to before it; steps take what perf/step_seconds says. Saving is told by the journal's"
    " stall_seconds, evaluation, samples and metrics by perf/hooks_seconds without these."
)


def goodput(report: RunReport) -> float | None:
    """Share of the wall time, from 0 to 1; None if nothing was logged yet."""
    parts = wall_time(report)
    whole = sum(parts.values())
    return parts[COUNTS] / whole if whole else None


def wall_time(report: RunReport) -> dict[str, float]:
    """What the seconds from the first start to the last entry went into; their sum is all of them."""
    history = report.sessions
    if not history:
        return {}
    parts = defaultdict[str, float](float, {COUNTS: 0.0})
    for name, seconds in _steps(stretches(report.rows, report.events)):
        parts[name] += seconds
    saving = sum(event.get("stall_seconds", 0.0) for event in report.happened("save"))
    parts["saving checkpoints"] += saving
    parts["evaluation, samples and metrics"] += max(0.0, parts.pop("hooks", 0.0) - saving)
    parts["standing still between restarts"] += sum(max(0.0, after.started - before.ended)
                                                    for before, after in pairwise(history))  # fmt: skip
    parts[_REST] = max(0.0, history[-1].ended - history[0].started - sum(parts.values()))
    return parts


def _steps(stretches: Sequence[Stretch]) -> Iterator[tuple[str, float]]:
    """Seconds of steps, by what became of them, and of what came between them."""
    for number, stretch in enumerate(stretches):
        later = stretches[number + 1 :]
        last_kept = min((one.step for one in later), default=float("inf"))
        before = stretch.step
        for row in stretch.rows:
            num_steps, seconds = row["step"] - before, row["perf/step_seconds"]
            kept = max(0, min(num_steps, last_kept - before))
            yield COUNTS, kept * seconds
            if kept < num_steps:
                why = next(one.event for one in later if one.step < row["step"])
                yield _REDONE[why], (num_steps - kept) * seconds
            yield "hooks", num_steps * row.get("perf/hooks_seconds", 0.0)
            before = row["step"]


def goodput_section(report: RunReport) -> str:
    """The section on it."""
    parts = wall_time(report)
    whole = sum(parts.values())
    if not whole:
        return section(f"{report.anchor}goodput", "Goodput", paragraph(NONE_YET))
    rows = [
        Bar(name, (duration(seconds), percent(seconds, whole)), seconds / whole)
        for name, seconds in parts.items()
        if seconds or name == COUNTS
    ]
    told = bars("What the wall time went into", ("what", "took", "share"), rows)
    return section(f"{report.anchor}goodput", f"Goodput: {percent(parts[COUNTS], whole)}", told + paragraph(_FORMULA))
