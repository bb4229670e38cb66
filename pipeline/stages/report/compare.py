"""Several runs beside each other: one table of their figures, and the keys of their configs that differ."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.runtime.markup import number, percent, section, short, table
from pipeline.stages.report.collect import RunReport
from pipeline.stages.report.goodput import goodput

_ABSENT = "–"


def comparison(reports: Sequence[RunReport]) -> str:
    """One row for each run."""
    heads = ("run", "steps", "tokens", "training loss", "validation loss", "tokens/s, median", "MFU, median",
             "goodput", "restarts", "rollbacks")  # fmt: skip
    return section("comparison", "Comparison", table("Runs beside each other", heads, map(_row, reports)))


def _row(report: RunReport) -> tuple[str, ...]:
    last = report.training[-1] if report.training else {}
    held_out = report.validation[-1] if report.validation else {}
    share, mfu = goodput(report), middle(report, "perf/mfu")
    return (
        report.name,
        number(last.get("step", 0)),
        short(last.get("train/tokens")),
        number(last.get("train/loss"), 4),
        number(held_out.get("validation/loss"), 4),
        short(middle(report, "perf/tokens_per_second")),
        _ABSENT if mfu is None else percent(mfu, 1),
        _ABSENT if share is None else percent(share, 1),
        number(max(0, len(report.sessions) - 1)),
        number(len(report.happened("rollback"))),
    )


def middle(report: RunReport, key: str) -> float | None:
    """The median of a figure over the rows that stand; None if there is none."""
    values = sorted(row[key] for row in report.training if row.get(key))
    return values[len(values) // 2] if values else None


def differences(reports: Sequence[RunReport]) -> str:
    """Keys of the configs that differ; `output` is each run's own and left out."""
    flat = [dict(_leaves("", report.config.model_dump(mode="json"))) for report in reports]
    keys = list(dict.fromkeys(key for one in flat for key in one if key != "output"))
    rows = [(key, *values) for key in keys if len(set(values := [one.get(key, _ABSENT) for one in flat])) > 1]
    told = table("Keys of the configs that differ", ("key", *(report.name for report in reports)), rows, "None differ.")
    return section("differences", "Configs: what differs", told)


def _leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Keys with dots and their values as text; a list is one value."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}" if key else name, inner)
    else:
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
