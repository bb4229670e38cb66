import io
import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from data_prep.executors.local import LocalProcesses
from data_prep.tasks.runner import Runner
from pipeline.errors import CorpusError, TokenizerError
from tests.unit.data_prep.executor_tasks import Counted, IgnoresCtrlC, Killed, Refused, Square, begun, ran, wait_until


def runner(work: Path, executor: LocalProcesses, console: Console | None = None) -> Runner:
    return Runner(work, executor, console or Console(file=io.StringIO()))


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(tmp_path: Path, workers: int) -> None:
    with LocalProcesses(workers) as executor:
        running = runner(tmp_path, executor)
        done = running.run([Square(number) for number in range(8)])
    assert [one.result for one in done] == [number**2 for number in range(8)]
    assert [(tmp_path / one.folder / "square.txt").read_text() for one in done] == [str(n**2) for n in range(8)]
    assert set(running.seconds) == {"squares"}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_class_and_sentence_and_what_is_finished_is_not_run_again(tmp_path: Path, workers: int):
    tasks = [Square(number) for number in range(4)]
    with LocalProcesses(workers) as executor:
        running = runner(tmp_path, executor)
        running.run(tasks[:3])
        with pytest.raises(TokenizerError, match=r"^number \(7\) is not wanted; take another$"):
            running.run([Refused(7), Refused(7)])
        running.run(tasks)
    assert ran(tmp_path) == [0, 1, 2, 3]


def test_so_many_run_at_a_time(tmp_path: Path) -> None:
    with LocalProcesses(2) as executor:
        done = runner(tmp_path, executor).run([Counted(number) for number in range(6)])
    assert max(one.result for one in done) <= 2


def test_a_killed_worker_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"a worker of 2 was killed.*lower workers"), LocalProcesses(2) as executor:
        runner(tmp_path, executor).run([Killed(times) for times in (5, 6, 7)])


def test_without_the_job_its_workers_end(tmp_path: Path) -> None:
    driver = ["-m", "tests.unit.data_prep.executor_driver", str(tmp_path), '{"type": "local"}', "2", "Gated", "2"]
    job = subprocess.Popen([sys.executable, *driver])
    wait_until(lambda: len(begun(tmp_path)) == 2)
    job.kill()
    job.wait()
    workers = [int(path.name.rpartition("-")[2]) for path in begun(tmp_path)]
    wait_until(lambda: not any(map(psutil.pid_exists, workers)))


def test_ctrl_c_is_the_jobs_affair(tmp_path: Path) -> None:
    """It reaches workers too, also while they wait for work."""
    with LocalProcesses(2) as executor:
        done = runner(tmp_path, executor).run([IgnoresCtrlC(number) for number in range(2)])
    assert [one.result for one in done] == [True, True]


def test_away_from_a_terminal_a_phase_is_a_line(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=80)
    with LocalProcesses(1) as executor:
        runner(tmp_path, executor, console).run([Square(1)])
    assert re.fullmatch(r"squares +\d+\.\d s\n", console.file.getvalue())  # type: ignore[attr-defined]


def test_on_a_terminal_a_phase_is_a_bar(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with LocalProcesses(1) as executor:
        runner(tmp_path, executor, console).run([Square(1), Square(2)])
    assert "2/2" in console.file.getvalue()  # type: ignore[attr-defined]


def test_workers_are_all_cores_of_this_process_if_not_given() -> None:
    assert LocalProcesses(None).workers == len(os.sched_getaffinity(0))
