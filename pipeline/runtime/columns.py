"""Tables of figures as plain text, of which nothing is cut, however narrow the terminal is."""

import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from rich.console import Console

_GAP = "  "


def print_columns(console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column is of names, the others are of figures.

    Where a terminal is too narrow for it, heads are wrapped, then the table is turned on its side. What is no terminal
    takes lines of any length.
    """
    choices = [
        _lines([heads, *rows]),
        _lines([*_wrapped(heads), *rows]),
        _lines(zip(heads, *rows, strict=True)),
    ]
    width = console.width if console.is_terminal else sys.maxsize
    best = next((lines for lines in choices if max(map(len, lines)) <= width), choices[1])
    for line in (title, *best):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def counted(number: int, noun: str) -> str:
    """`1 task`, `2,000 tasks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _wrapped(heads: Sequence[str]) -> Sequence[Sequence[str]]:
    """Lines of one word of each head, the last words on the last line."""
    from_below = zip_longest(*(head.split()[::-1] for head in heads), fillvalue="")
    return list(from_below)[::-1]


def _lines(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows of as many cells each, padded to columns."""
    table = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        _GAP.join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))])
        for first, *rest in table
    ]
