"""What the wall time of a run went into, of stories whose seconds are counted by hand."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.runtime.files import append_json_line
from pipeline.stages.report.collect import RunReport, collect
from pipeline.stages.report.goodput import COUNTS, goodput, wall_time
from pipeline.stages.report.ranks import rank_times
from tests.unit.html_page import HtmlPage
from tests.unit.stages.run_story import start_run

REDONE = "steps done again after a restart"
LEFT = "steps that a rollback left behind"
REST = "starting up, steps not logged, and the rest"


def told(folder: Path, *lines: dict[str, Any]) -> RunReport:
    """A run of events and rows; a row takes a second a step, and a quarter of one between steps."""
    start_run(folder, folder / "nothing")
    for line in lines:
        append_json_line(folder / ("journal.jsonl" if "event" in line else "metrics.jsonl"), line)
    return collect(folder)


def event(name: str, time: float, step: int, **more: Any) -> dict[str, Any]:
    return {"event": name, "time": time, "step": step, **more}


def row(step: int, time: float) -> dict[str, Any]:
    return {"step": step, "time": time, "train/loss": 1.0, "perf/step_seconds": 1.0, "perf/hooks_seconds": 0.25}


def parts(report: RunReport) -> dict[str, float]:
    return {name: seconds for name, seconds in wall_time(report).items() if seconds}


def test_a_run_without_a_fault(tmp_path: Path) -> None:
    report = told(tmp_path / "run", event("start", 100, 0), row(10, 115), row(20, 130),
                  event("save", 130, 20, bytes=1, seconds=4.0, stall_seconds=2.0),
                  event("end", 130, 20, reason="complete"))  # fmt: skip
    assert parts(report) == {COUNTS: 20, "saving checkpoints": 2, "evaluation, samples and metrics": 3, REST: 5}
    assert goodput(report) == pytest.approx(20 / 30)


def test_steps_done_again_and_the_standstill_are_lost(tmp_path: Path) -> None:
    """Steps 11 to 20 are in two rows, of which the second is cut by the checkpoint of step 15."""
    report = told(tmp_path / "run", event("start", 0, 0), row(12, 20), row(20, 30),
                  event("resume", 50, 15), row(25, 70))  # fmt: skip
    assert parts(report) == {
        COUNTS: 25, REDONE: 5, "evaluation, samples and metrics": 7.5, "standing still between restarts": 20,
        REST: 12.5,
    }  # fmt: skip
    assert goodput(report) == pytest.approx(25 / 70)


def test_what_a_rollback_left_behind_is_told_apart(tmp_path: Path) -> None:
    report = told(tmp_path / "run", event("start", 0, 0), row(20, 25), event("resume", 30, 20), row(30, 45),
                  event("rollback", 46, 10, from_step=30), row(30, 70))  # fmt: skip
    found = parts(report)
    assert (found[COUNTS], found[LEFT]) == (30, 20)
    assert REDONE not in found
    assert sum(found.values()) == 70


def test_a_run_that_went_back_and_did_not_come_as_far_again_counts_up_to_there(tmp_path: Path) -> None:
    report = told(tmp_path / "run", event("start", 0, 0), row(40, 50), event("resume", 60, 10), row(20, 75))
    assert (parts(report)[COUNTS], parts(report)[REDONE]) == (20, 30)


def test_nothing_yet(tmp_path: Path) -> None:
    report = told(tmp_path / "run")
    assert wall_time(report) == {}
    assert goodput(report) is None


def test_the_slowest_ranks_come_first_and_only_ranks_of_now_count(tmp_path: Path) -> None:
    start_run(tmp_path / "run", tmp_path / "nothing")
    for step, own in ((1, [9.0, 1.0]), (2, [0.5, 1.0, 2.0]), (3, [0.5, 2.0, 2.5])):
        append_json_line(tmp_path / "run" / "ranks.jsonl", {"step": step, "time": step, "own_seconds": own})
    table = HtmlPage(rank_times(collect(tmp_path / "run"))).rows
    assert table[1:] == [
        ["rank 2", "2.25 s", "1.50", "2 of 2"], ["rank 1", "1.5 s", "1.00", "0 of 2"],
        ["rank 0", "0.5 s", "0.33", "0 of 2"],
    ]  # fmt: skip
