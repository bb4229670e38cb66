"""The funnel as tables of bars, for the pages about a corpus and about a run that reads it."""

from collections.abc import Mapping
from typing import Any

from pipeline.corpus.funnel import Funnel, Step, funnel
from pipeline.runtime.bars import Bar, bars, commonest, count_bars
from pipeline.runtime.markup import fold, number, paragraph, percent

FUNNEL_LEGEND = (
    '<ul class="legend"><li><svg class="key" viewBox="0 0 24 12" aria-hidden="true"><rect class="s0" width="24"'
    ' height="12"/></svg>left</li><li><svg class="key" viewBox="0 0 24 12" aria-hidden="true"><rect class="s1"'
    ' width="24" height="12"/></svg>taken by this step</li></ul>'
)


def funnel_bars(name: str, figures: Mapping[str, Any]) -> str:
    """What became of the records of a source, from its figures in the manifest."""
    found = funnel(figures)
    if not found.records:
        return paragraph("The manifest does not say what was read.")
    heads = ("step", "taken", "share", "left")
    return bars(f"What became of the records of {name}", heads, _steps(found)) + _reasons(name, found)


def _steps(found: Funnel) -> list[Bar]:
    records, kept = found.records, found.kept
    return [
        Bar("records", ("–", "–", number(records)), 1.0),
        *(_step(step, records) for step in found.steps),
        Bar("kept", ("–", percent(kept, records), number(kept)), kept / records),
    ]


def _step(step: Step, records: int) -> Bar:
    cells = number(step.lost), percent(step.lost, records), number(step.left)
    return Bar(step.name, cells, step.left / records, step.lost / records)


def _reasons(name: str, found: Funnel) -> str:
    counts = {
        f"{step.name}: {reason}": count for step in found.steps for reason, count in step.reasons.items() if reason
    }
    rows = count_bars(commonest(counts), found.records)
    heads = ("reason", "taken", "share")
    return fold("By reason", bars(f"Reasons in {name}", heads, rows)) if rows else ""
