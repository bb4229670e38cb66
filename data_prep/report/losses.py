"""The sections on what did not become part of the corpus."""

from data_prep.report.collect import CorpusReport, SourceFacts
from data_prep.report.parts import clipped, heading, panels, sample
from pipeline.corpus.funnel import added
from pipeline.corpus.funnel_bars import FUNNEL_LEGEND, funnel_bars
from pipeline.runtime.bars import bars, commonest, count_bars
from pipeline.runtime.markup import fold, section, table

_DETAIL_CHARACTERS = 200


def funnels(report: CorpusReport) -> str:
    """From the records met to the documents kept: all sources together, if there are several, then each."""
    parts = [FUNNEL_LEGEND]
    if len(report.sources) > 1:
        parts += [
            "<h3>All sources</h3>",
            funnel_bars("all sources", added(source.figures for source in report.sources)),
        ]
    for source in report.sources:
        parts += [heading(source.name), funnel_bars(source.name, source.figures)]
    return section("funnel", "From records to documents", "".join(parts))


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
