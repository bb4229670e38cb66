import io
from pathlib import Path

import pytest
from rich.console import Console

from data_prep.reading.task import ReadResult
from data_prep.report.table import print_speed, timing
from data_prep.tasks.store import Done
from tests.unit.data_prep.reads import runner_for


def read(number: int, text_bytes: int) -> Done:
    return Done(f"read/{number}", (), ReadResult(1, text_bytes, 1, {}, {}, {}, {}))


@pytest.mark.parametrize(
    ("ran", "told", "megabytes"),
    [({"read/0", "read/1"}, "2.50 MB/s", 2.5), ({"read/1"}, "1.50 MB/s", 1.5), (set(), "nothing was read", None)],
)
def test_speed_is_that_of_what_this_run_read(tmp_path: Path, ran: set[str], told: str, megabytes: float | None) -> None:
    """After a resume or an append the rest was read before."""
    runner = runner_for(tmp_path)
    runner.seconds = {"read": 1.0, "shards": 3.0}
    runner.tasks["read"], runner.ran["read"] = {"read/0", "read/1"}, ran
    figures = timing(runner, [read(0, 4_000_000), read(1, 6_000_000)])
    assert figures["megabytes_per_second"] == megabytes
    assert (figures["tasks"], figures["tasks_run"]) == ({"read": 2}, {"read": len(ran)})
    said = io.StringIO()
    print_speed(Console(file=said, width=200), figures)
    assert said.getvalue() == f"4.0 s, {told} with 1 workers; {len(ran)} of 2 tasks run\n"
