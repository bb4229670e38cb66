"""HTML from plain values. All that comes from a run or a corpus passes `escape`, so nothing in it can act as markup."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

NONE_YET = "None yet."
_NUMBER = re.compile(r"–|<?[\d.,]+%?( [A-Za-z]+( \d+ [a-z]+)?)?")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def paragraph(text: str, kind: str = "note") -> str:
    """A paragraph of plain text."""
    return f'<p class="{escape(kind)}">{escape(text)}</p>'


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], empty: str = NONE_YET) -> str:
    """A table of plain text, or the sentence `empty` if it has no rows; columns of numbers are set to the right.

    It scrolls inside its own frame, which the keyboard can reach, so that a narrow screen keeps its width.
    """
    cells = list(rows)
    if not cells:
        return paragraph(empty)
    kinds = [' class="number"' if all(map(_NUMBER.fullmatch, column)) else "" for column in zip(*cells, strict=True)]
    head = "".join(f'<th scope="col"{kind}>{escape(text)}</th>' for text, kind in zip(heads, kinds, strict=True))
    body = ["".join(f"<td{kind}>{escape(text)}</td>" for text, kind in zip(row, kinds, strict=True)) for row in cells]
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f'<caption class="hidden">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody><tr>{'</tr><tr>'.join(body)}</tr></tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, str]], kind: str) -> str:
    """A list of names and values."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="{escape(kind)}">{items}</dl>'


def section(identifier: str, title: str, content: str) -> str:
    """A part of the page with a heading; `content` is markup."""
    name = escape(identifier)
    return f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{escape(title)}</h2>{content}</section>'


def fold(title: str, content: str) -> str:
    """Markup that is hidden until its title is clicked."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def number(value: float | int | None, digits: int = 0) -> str:
    """A number with thousands separators, or a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"


def short(value: float | int | None) -> str:
    """A large number with three figures and a unit: 2.62 M."""
    if value is None:
        return "–"
    for factor, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{unit}" if abs(value) < 999.5 * factor else f"{value / factor:.0f}{unit}"
    return f"{value:.3g}"


def percent(part: float, whole: float) -> str:
    """A share with one decimal, or a dash of nothing."""
    if not whole:
        return "–"
    return "<0.1%" if 0 < part < 0.001 * whole else f"{part / whole:.1%}"


def size(num_bytes: float) -> str:
    """Bytes in decimal units."""
    power = 0
    while num_bytes >= 999.5 and power < len(_UNITS) - 1:
        num_bytes, power = num_bytes / 1000, power + 1
    return f"{num_bytes:.3g} {_UNITS[power]}"


def duration(seconds: float) -> str:
    """A stretch of time in its two largest units."""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes and seconds >= 60 else f"{seconds:.3g} s"


def moment(time: float) -> str:
    """A time in UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")
