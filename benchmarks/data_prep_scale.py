"""Core hours and disk of a large job, computed from what a small one took; `docs/data-prep.md` has the formulas."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.data_prep_text import Text
from data_prep.plan import MAX_TASKS, TASK_BYTES

_ONCE = ("tokenizer", "measure")
"""Phases whose work does not grow with the text."""


def scale_rows(text_bytes: float, text: Text, runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of (what, core hours, TB) for so much text as input, each phase at the speed of the measured runs."""
    scale, run = text_bytes / text.text_bytes, runs[0]
    phases = [phase for phase in run["phases"] if phase not in _ONCE]
    hours = {phase: median(one["phases"][phase] for one in runs) * scale / 3600 for phase in phases}
    sizes = {name: run[name] * scale / 1e12 for name in ("documents_bytes", "row_bytes", "shard_bytes")}
    rows = [[f"{phase} phase", f"{hours[phase]:,.0f}", ""] for phase in sorted(phases)]
    return [
        *rows,
        ["all phases", f"{sum(hours.values()):,.0f}", ""],
        ["texts between the phases", "", f"{sizes['documents_bytes']:.2f}"],
        ["rows for deduplication", "", f"{sizes['row_bytes']:.2f}"],
        ["shards", "", f"{sizes['shard_bytes']:.2f}"],
        [
            f"{run['tokens'] * scale / 1e12:.2f} × 10^12 tokens; {_num_reading_tasks(text_bytes):,.0f} reading tasks",
            "",
            "",
        ],
    ]


def _num_reading_tasks(text_bytes: float) -> float:
    """As `data_prep.plan` divides them."""
    size = TASK_BYTES
    while text_bytes > size * MAX_TASKS:
        size *= 2
    return text_bytes / size
