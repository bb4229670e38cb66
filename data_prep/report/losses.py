"""The sections on what did not become part of the corpus."""

from collections.abc import Mapping
from typing import Any

from data_prep.report.bars import Bar, bars, commonest, count_bars
from data_prep.report.collect import CorpusReport, SourceFacts
from data_prep.report.funnel import Funnel, Step, added, funnel
from data_prep.report.parts import clipped, heading, panels, sample
from pipeline.runtime.markup import fold, number, paragraph, percent, section, table

_LEGEND = (
    '<ul class="legend"><li><svg class="key" viewBox="0 0 24 12" aria-hidden="true"><rect class="s0" width="24"'
    ' height="12"/></svg>left</li><li><svg class="key" viewBox="0 0 24 12" aria-hidden="true"><rect class="s1"'
    ' width="24" height="12"/></svg>taken by this step</li></ul>'
)
_DETAIL_CHARACTERS = 200


def funnels(report: CorpusReport) -> str:
    """From the records met to the documents kept: all sources together, if there are several, then each."""
    parts = [_LEGEND]
    if len(report.sources) > 1:
        parts += ["<h3>All sources</h3>", _funnel("all sources", added(source.figures for source in report.sources))]
    for source in report.sources:
        parts += [heading(source.name), _funnel(source.name, source.figures)]
    return section("funnel", "From records to documents", "".join(parts))


def _funnel(name: str, figures: Mapping[str, Any]) -> str:
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


def rejects(report: CorpusReport) -> str:
    """Bad records, and the first few of them."""
    return section("rejects", "Rejected records", panels(report.sources, _rejects, "No record was bad."))


def _rejects(source: SourceFacts) -> str:
    counts: dict[str, int] = source.figures.get("rejected", {})
    if not counts:
        return ""
    rows = count_bars(commonest(counts), source.figures.get("read", 0))
    heads = ("reason", "records", "share")
    return bars(f"Rejected records of {source.name}", heads, rows) + fold("The first few", _first_rejects(source))


def _first_rejects(source: SourceFacts) -> str:
    rows = [
        (
            str(row.get("reason", "")),
            str(row.get("file", "")),
            str(row.get("position", "–")),
            clipped(str(row.get("detail", "")), _DETAIL_CHARACTERS),
        )
        for row in source.rejects
    ]
    heads = ("reason", "file", "position", "detail")
    return table(f"First rejected records of {source.name}", heads, rows, "The file of rejects is not in the folder.")


def samples(report: CorpusReport) -> str:
    """Texts that filters dropped, by reason."""
    empty = "No text that a filter dropped is at hand."
    return section("dropped", "Texts that were dropped", panels(report.sources, _samples, empty))


def _samples(source: SourceFacts) -> str:
    by_reason: dict[str, list[str]] = {}
    for row in source.content.get("dropped_samples", ()):
        place = f"{row.get('file', 'unknown file')}, record {row.get('position', '–')}"
        by_reason.setdefault(str(row["reason"]), []).append(sample(place, row["text"]))
    return "".join(fold(reason, "".join(figures)) for reason, figures in sorted(by_reason.items()))
