"""Tables whose rows are bars: charts that need no script and read as tables where nothing is seen."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from pipeline.runtime.markup import number, percent

_THINNEST = 0.004
"""Share of the track that is drawn of anything above zero, so that it can be seen."""


@dataclass(frozen=True)
class Bar:
    """One row."""

    label: str
    """What it shows."""
    cells: tuple[str, ...]
    """Its figures, as text."""
    length: float
    """Share of the track that is filled, from 0 to 1."""
    lost: float = 0.0
    """Share of the track beyond it that is filled in the other colour."""


def bars(caption: str, heads: Sequence[str], rows: Iterable[Bar]) -> str:
    """A table of bars with heads for label and figures."""
    body = "".join(f"<tr>{_row(bar)}</tr>" for bar in rows)
    label, *figures = (escape(head) for head in heads)
    head = f'<th scope="col">{label}</th>' + "".join(f'<th scope="col" class="number">{one}</th>' for one in figures)
    return (
        f'<table class="bars"><caption class="hidden">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _row(bar: Bar) -> str:
    filled = _piece("s0", 0, bar.length)
    if bar.lost:
        filled += _piece("s1", bar.length, bar.lost)
    picture = f'<svg class="bar" aria-hidden="true">{filled}</svg>'
    cells = "".join(f'<td class="number">{escape(cell)}</td>' for cell in bar.cells)
    return f'<th scope="row">{escape(bar.label)}{picture}</th>{cells}'


def _piece(kind: str, start: float, length: float) -> str:
    width = max(length, _THINNEST) if length else 0
    return f'<rect class="{kind}" x="{100 * min(start, 1 - width):.2f}%" width="{100 * width:.2f}%" height="100%"/>'


def count_bars(counts: Iterable[tuple[str, int]], whole: int) -> list[Bar]:
    """Bars of counts, the longest as long as the track; each with its share of `whole`."""
    rows = list(counts)
    longest = max((count for _, count in rows), default=0) or 1
    return [Bar(label, (number(count), percent(count, whole)), count / longest) for label, count in rows]


def commonest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Names and counts, the largest count first, equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
