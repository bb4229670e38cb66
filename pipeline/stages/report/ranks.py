"""What each rank spent on a step by itself: the slowest first."""

from statistics import fmean, median

from pipeline.runtime.bars import Bar, bars
from pipeline.runtime.markup import duration, number, paragraph, section
from pipeline.stages.report.collect import RunReport
from pipeline.stages.report.history import standing_rows

MAX_RANKS = 16
"""Ranks shown of more."""
MAX_ROWS = 1000
"""Rows looked at, the newest: a rank may be slow since yesterday."""


def rank_times(report: RunReport) -> str:
    """The section on them. Only rows with as many ranks as there were last are compared."""
    standing = standing_rows(report.rank_rows, report.events, "own_seconds")[-MAX_ROWS:]
    rows = [row["own_seconds"] for row in standing]
    rows = [row for row in rows if len(row) == len(rows[-1])]
    if not rows:
        return section(f"{report.anchor}ranks", "Ranks", paragraph("None yet, or there is only one rank."))
    means = [fmean(column) for column in zip(*rows, strict=True)]
    slowest = sorted(range(len(means)), key=means.__getitem__, reverse=True)[:MAX_RANKS]
    told = bars("Ranks' own part of a step", ("rank", "mean", "÷ median of all ranks", "slowest in"),
                [_bar(rank, means, rows) for rank in slowest])  # fmt: skip
    left_out = len(means) - len(slowest)
    note = (f"Waiting for its data and forward passes, in which up to ZeRO 2 no other rank has a part; steps"
            f" {number(standing[0]['step'])} to {number(standing[-1]['step'])}.")  # fmt: skip
    more = f" {left_out} faster ones are in ranks.jsonl." if left_out else ""
    return section(f"{report.anchor}ranks", "Ranks' own part of a step", told + paragraph(note + more))


def _bar(rank: int, means: list[float], rows: list[list[float]]) -> Bar:
    times = sum(row[rank] == max(row) for row in rows)
    cells = duration(means[rank]), number(means[rank] / (median(means) or 1), 2), f"{times} of {len(rows)}"
    return Bar(f"rank {rank}", cells, means[rank] / (max(means) or 1))
