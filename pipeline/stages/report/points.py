"""Series of points as the page's script reads them: finite, and no more than can be seen."""

import json
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from pipeline.stages.report.history import Row

MAX_POINTS = 2000
"""Points drawn of a series. A longer one is drawn by the extremes of so many stretches, so that no spike is lost."""

Point = tuple[int, float]


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


def axis(rows: Sequence[Row], begin: float) -> list[tuple[int, float, float]]:
    """Steps with the tokens learned from and the seconds since `begin` by then; neither ever falls."""
    seconds = accumulate((row["time"] - begin for row in rows), max)
    tokens = accumulate((row.get("train/tokens") or 0.0 for row in rows), max)
    whole = [(row["step"], *pair) for row, *pair in zip(rows, tokens, seconds, strict=True)]
    every = math.ceil(len(whole) / MAX_POINTS) or 1
    return [*whole[::every], *(whole[-1:] if (len(whole) - 1) % every else [])]


def script_json(value: Any) -> str:
    """JSON that can stand inside a `<script>` element: nothing in it can close the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
