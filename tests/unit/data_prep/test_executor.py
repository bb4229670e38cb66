import io
import os
import signal
import time

import pytest
from rich.console import Console

from data_prep.executor import Executor
from pipeline.config.prep import LocalExecutor
from pipeline.errors import CorpusError


def square(value: int) -> int:
    time.sleep(0.02 if value == 0 else 0)  # the first ends last
    return value * value


def fail_on_two(value: int) -> int:
    if value == 2:
        raise CorpusError("two is not wanted")
    return value


def kill_worker(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def executor(workers: int, console: Console | None = None) -> Executor:
    return Executor(LocalExecutor(workers=workers), console or Console(file=io.StringIO()))


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(workers: int) -> None:
    with executor(workers) as running:
        assert running.run("squares", square, range(8)) == [value * value for value in range(8)]
        assert running.run("again", square, [3, 4]) == [9, 16]
        assert running.run("none", square, []) == []
        assert set(running.seconds) == {"squares", "again", "none"}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_sentence(workers: int) -> None:
    with pytest.raises(CorpusError, match=r"^two is not wanted$"), executor(workers) as running:
        running.run("failing", fail_on_two, range(5))


def test_a_killed_worker_is_told_in_a_sentence() -> None:
    with pytest.raises(CorpusError, match=r"killed.*lower executor\.workers"), executor(2) as running:
        running.run("killing", kill_worker, range(3))


def test_away_from_a_terminal_a_phase_is_a_line() -> None:
    console = Console(file=io.StringIO(), width=80)
    with executor(1, console) as running:
        running.run("read", square, [1])
    assert console.file.getvalue().split() == ["read", "0.0", "s"]  # type: ignore[attr-defined]


def test_on_a_terminal_a_phase_is_a_bar() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with executor(1, console) as running:
        running.run("read", square, [1, 2])
    assert "2/2" in console.file.getvalue()  # type: ignore[attr-defined]


def test_workers_are_all_cores_of_this_process_if_not_given() -> None:
    assert Executor(LocalExecutor(), Console()).workers == len(os.sched_getaffinity(0))
