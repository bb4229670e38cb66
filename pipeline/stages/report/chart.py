"""The data of the charts, as the page's script reads it."""

import json
import math
from collections.abc import Sequence
from typing import Any

from pipeline.stages.report.collect import RunReport
from pipeline.stages.report.history import Row

MAX_POINTS = 2000
"""Points drawn of a series. A longer one is drawn by the extremes of so many stretches, so that no spike is lost."""

Point = tuple[int, float]


def chart_data(report: RunReport) -> dict[str, Any]:
    """The charts with their series, and the marks on their common axis of steps."""
    training, validation = report.training, report.validation
    loss = [
        {"name": "training", "style": "line", "points": points(training, "train/loss")},
        {"name": "validation", "style": "points", "points": points(validation, "validation/loss")},
    ]
    charts = [
        {"id": "loss", "title": "Loss", "unit": "nats per token", "format": "fixed", "series": loss},
        _single("learning-rate", "Learning rate", "", "scientific", training, "train/learning_rate"),
        _norm(training),
        _single("throughput", "Throughput", "tokens per second", "si", training, "perf/tokens_per_second"),
        _single("mfu", "Model FLOPs utilisation", "share of peak", "percent", training, "perf/mfu"),
    ]
    return {"charts": charts, "marks": _marks(report)}


def _single(identifier: str, title: str, unit: str, form: str, rows: Sequence[Row], key: str) -> dict[str, Any]:
    series = [{"name": title.lower(), "style": "line", "points": points(rows, key)}]
    return {"id": identifier, "title": title, "unit": unit, "format": form, "series": series}


def _norm(rows: Sequence[Row]) -> dict[str, Any]:
    if any("train/update_norm" in row for row in rows):  # Muon at ZeRO 2
        return _single("gradient-norm", "Update norm", "orthogonalised by Muon", "fixed", rows, "train/update_norm")
    return _single("gradient-norm", "Gradient norm", "before clipping", "fixed", rows, "train/gradient_norm")


def _marks(report: RunReport) -> list[dict[str, Any]]:
    marks = [("save", checkpoint.step, "checkpoint saved") for checkpoint in report.checkpoints]
    marks += [("resume", session.step, "restarted from here") for session in report.sessions[1:]]
    marks += [("evaluation", row["step"], f"evaluated on {row['set']}") for row in report.evaluations]
    return [{"kind": kind, "step": step, "text": text} for kind, step, text in marks]


def points(rows: Sequence[Row], key: str) -> list[Point]:
    """The finite values of a key with their steps, thinned to about `MAX_POINTS`."""
    values = [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]
    return thin([(step, value) for step, value in values if math.isfinite(value)], MAX_POINTS)


def thin(series: Sequence[Point], limit: int) -> list[Point]:
    """At most about `limit` points: first, last, and of each stretch the lowest and the highest."""
    if len(series) <= limit:
        return list(series)
    size = math.ceil(2 * len(series) / limit)
    kept = {series[0], series[-1]}
    for start in range(0, len(series), size):
        stretch = series[start : start + size]
        kept |= {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
    return sorted(kept)


def script_json(value: Any) -> str:
    """JSON that can stand inside a `<script>` element: nothing in it can close the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
