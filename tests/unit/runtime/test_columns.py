import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from pipeline.runtime.columns import print_columns

HEADS = ("source", "text MB", "bytes per token")
ROWS = [("web", "2,453,123.1", "4.201"), ("code", "1.0", "3.100")]
PLAIN = """corpus
source      text MB  bytes per token
web     2,453,123.1            4.201
code            1.0            3.100
"""
WRAPPED = """corpus
                     bytes
               text    per
source           MB  token
web     2,453,123.1  4.201
code            1.0  3.100
"""
TURNED = """plan
source          web
a       123,456,789
b       123,456,789
c       123,456,789
"""


def printed(width: int, terminal: bool, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    print_columns(Console(file=out, width=width, force_terminal=terminal), title, heads, rows)
    return out.getvalue()


@pytest.mark.parametrize(
    ("width", "terminal", "expected"),
    [(36, True, PLAIN), (35, True, WRAPPED), (26, True, WRAPPED), (20, False, PLAIN), (20, True, WRAPPED)],
)
def test_no_figure_is_cut(width: int, terminal: bool, expected: str) -> None:
    assert printed(width, terminal, "corpus", HEADS, ROWS) == expected


def test_a_table_that_is_too_wide_is_turned() -> None:
    assert printed(20, True, "plan", ("source", "a", "b", "c"), [("web", *["123,456,789"] * 3)]) == TURNED
