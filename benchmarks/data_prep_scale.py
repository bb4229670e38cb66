"""Core hours and disk of a large job, computed from what a small one took; `docs/data-prep.md` has the formulas.

What grows with the text is scaled by it. One thing grows with its square: every task of a later phase looks into what
each reading task of its source left, and there are more of both. A small job does not show that; it is added.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.data_prep_text import Text
from data_prep.plan import MAX_TASKS, TASK_BYTES
from pipeline.config.prep.recipe import MinHash, Shards

_ONCE = ("tokenizer", "measure", "encoder")
"""Phases whose work does not grow with the text."""
_SECONDS_TO_OPEN = 300e-6
"""To find a range in what one reading task left; measured: 270 to 320 µs with warm files."""
_DEDUP_DOCUMENTS, _LINK_ROWS = 1 << 21, 1 << 22
"""Documents of a deduplication task, rows with band hashes of a task that links."""


def scale_rows(text_bytes: float, text: Text, runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of (what, core hours, TB) for so much text as input, each phase at the speed of the measured runs."""
    scale, run = text_bytes / text.text_bytes, runs[0]
    phases = [phase for phase in run["phases"] if phase not in _ONCE]
    hours = {phase: median(one["phases"][phase] for one in runs) * scale / 3600 for phase in phases}
    reads, later = num_reading_tasks(text_bytes), _num_later_tasks(scale, run)
    opening = opening_hours(text_bytes, scale, run)
    sizes = {name: run[name] * scale / 1e12 for name in ("documents_bytes", "row_bytes", "shard_bytes")}
    return [
        *([f"{phase} phase", f"{hours[phase]:,.0f}", ""] for phase in sorted(phases)),
        [f"{later:,.0f} later tasks look into {reads:,.0f} reading tasks", f"{opening:,.0f}", ""],
        ["all phases", f"{sum(hours.values()) + opening:,.0f}", ""],
        ["texts between the phases", "", f"{sizes['documents_bytes']:.2f}"],
        ["rows for deduplication", "", f"{sizes['row_bytes']:.2f}"],
        ["shards", "", f"{sizes['shard_bytes']:.2f}"],
        [f"{run['tokens'] * scale / 1e12:.2f} × 10^12 tokens; {reads:,.0f} reading tasks", "", ""],
    ]


def opening_hours(text_bytes: float, scale: float, run: Mapping[str, Any]) -> float:
    """Core hours that later tasks need to find their ranges in what one source's reading tasks left."""
    return _num_later_tasks(scale, run) * num_reading_tasks(text_bytes) * _SECONDS_TO_OPEN / 3600


def _num_later_tasks(scale: float, run: Mapping[str, Any]) -> float:
    """Tasks that make shards, deduplicate and link."""
    documents = run["kept"] * scale
    bands = MinHash().bands if "links" in run["phases"] else 0
    return run["tokens"] * scale / Shards().shard_tokens + documents / _DEDUP_DOCUMENTS + documents * bands / _LINK_ROWS


def num_reading_tasks(text_bytes: float) -> float:
    """As `data_prep.plan` divides one source."""
    size = TASK_BYTES
    while text_bytes > size * MAX_TASKS:
        size *= 2
    return text_bytes / size
