"""The charts: which there are, their series of each run, and the marks on them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pipeline.stages.report.collect import RunReport
from pipeline.stages.report.history import Row, standing_rows
from pipeline.stages.report.points import Point, axis, points

Named = Iterator[tuple[str, list[Point]]]


@dataclass(frozen=True)
class Chart:
    """One chart."""

    id: str
    title: str
    unit: str
    """What its values are, or of what."""
    format: str
    """How the script writes them: `fixed`, `scientific`, `si`, `percent`, `seconds` or `bytes`."""
    series: Callable[[RunReport], Named]
    """Names and points of a run's series."""
    from_zero: bool = True
    """Whether the axis of values begins at zero."""
    is_noisy: bool = True
    """Whether smoothing may touch it."""


def chart_data(reports: Sequence[RunReport]) -> dict[str, Any]:
    """Runs, charts and marks; charts without a point are left out, but for the first."""
    charts = [_chart(chart, reports) for chart in CHARTS]
    return {
        "runs": [{"name": one.name, "axis": axis(one.training, _begin(one))} for one in reports],
        "charts": [chart for chart in charts if chart["series"] or chart["id"] == CHARTS[0].id],
        "marks": [{"run": run, **mark} for run, report in enumerate(reports) for mark in _marks(report)],
    }


def _begin(report: RunReport) -> float:
    return report.sessions[0].started if report.sessions else 0.0


def _chart(chart: Chart, reports: Sequence[RunReport]) -> dict[str, Any]:
    series = [
        {"run": run, "name": name, "style": "points" if name.startswith("validation") else "line", "points": found}
        for run, report in enumerate(reports)
        for name, found in chart.series(report)
        if found
    ]
    return {"id": chart.id, "title": chart.title, "unit": chart.unit, "format": chart.format,
            "zero": chart.from_zero, "noisy": chart.is_noisy, "series": series}  # fmt: skip


def _marks(report: RunReport) -> Iterator[dict[str, Any]]:
    for checkpoint in report.checkpoints:
        yield {"kind": "save", "step": checkpoint.step, "text": "checkpoint saved"}
    for session in report.sessions[1:]:
        yield {"kind": "resume", "step": session.step, "text": "restarted from here"}
    for event in report.happened("spike"):
        yield {"kind": "spike", "step": event["first_step"], "text": f"the loss jumped, {event['z']:.1f} deviations"}
    for event in report.happened("rollback"):
        yield {"kind": "rollback", "step": event["step"], "text": f"rolled back to here from step {event['from_step']}"}
    for row in report.evaluations:
        yield {"kind": "evaluation", "step": row["step"], "text": f"evaluated on {row['set']}"}


def _one(name: str, key: str) -> Callable[[RunReport], Named]:
    """One series of the rows of training."""

    def series(report: RunReport) -> Named:
        yield name, points(report.training, key)

    return series


def _loss(report: RunReport) -> Named:
    yield "training", points(report.training, "train/loss")
    yield "validation", points(report.validation, "validation/loss")
    yield "validation, averaged weights", points(report.validation, "validation/ema_loss")


def _norm(report: RunReport) -> Named:
    yield "gradient, before clipping", points(report.training, "train/gradient_norm")
    yield "update, orthogonalised by Muon", points(report.training, "train/update_norm")  # at ZeRO 2


def _keys(rows: Sequence[Row], before: str, after: str = "") -> list[str]:
    """What stands between two texts in the names of figures, in the order of the alphabet."""
    found = {key for row in rows for key in row if key.startswith(before) and key.endswith(after)}
    return sorted(key[len(before) : len(key) - len(after)] for key in found if len(key) > len(before) + len(after))


def _by_source(report: RunReport) -> Named:
    for name in _keys(report.training, "train/loss/"):
        yield name, points(report.training, f"train/loss/{name}")


def _corpora(report: RunReport) -> Named:
    for name in _keys(report.rows, "validation/", "/loss"):
        key = f"validation/{name}/loss"
        yield f"validation, {name}", points(report.standing(key), key)


def _parts(report: RunReport) -> Named:
    for name in ("data", "forward", "backward", "communication", "optimizer", "hooks"):
        yield name, points(report.training, f"perf/{name}_seconds")


def _ranks(report: RunReport) -> Named:
    rows = standing_rows(report.rank_rows, report.events, "own_seconds")
    for name, of in (("slowest", max), ("median", median), ("fastest", min)):
        yield name, points([{"step": row["step"], "own": of(row["own_seconds"])} for row in rows], "own")


def _memory(report: RunReport) -> Named:
    names = {"memory": "used", "memory_reserved": "reserved", "host_memory": "on the host"}
    for key, name in names.items():
        yield name, points(report.training, f"perf/{key}_bytes")


CHARTS = (
    Chart("loss", "Loss", "nats per token", "fixed", _loss, from_zero=False),
    Chart(
        "learning-rate", "Learning rate", "", "scientific", _one("learning rate", "train/learning_rate"), is_noisy=False
    ),
    Chart("gradient-norm", "Gradient norm", "", "fixed", _norm),
    Chart("throughput", "Throughput", "tokens per second", "si", _one("tokens/s", "perf/tokens_per_second")),
    Chart("mfu", "Model FLOPs utilisation", "share of peak", "percent", _one("MFU", "perf/mfu")),
    Chart("sources", "Loss by source", "nats per token", "fixed", _by_source, from_zero=False),
    Chart("corpora", "Loss on other held-out corpora", "nats per token", "fixed", _corpora, from_zero=False),
    Chart("parts", "Parts of a step", "seconds, mean over ranks", "seconds", _parts),
    Chart("ranks", "Ranks' own part of a step", "seconds", "seconds", _ranks),
    Chart("memory", "Memory", "largest peak of all ranks", "bytes", _memory),
)
