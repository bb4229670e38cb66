import io
import re

import pytest
from rich.console import Console

from data_prep.tasks.progress import PhaseProgress


@pytest.mark.parametrize(
    ("num_finished", "told"), [(0, r"read web +0\.0 s\n"), (2, r"read web +0\.0 s, 2 of 3 found finished\n"), (3, "")]
)
def test_a_line_for_each_phase_that_had_something_to_do(num_finished: int, told: str) -> None:
    out = io.StringIO()
    with PhaseProgress(Console(file=out, width=20), "read web", 3, num_finished):
        pass
    assert re.fullmatch(told, out.getvalue())
