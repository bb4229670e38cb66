"""Jobs whose ranks are on other machines, with a process of this one that holds the run's lock as a rank does."""

import signal
import sys
from pathlib import Path

import pytest

from launch.plan import Machine, Plan
from launch.run import run_here
from pipeline.errors import RunError
from pipeline.runtime.lock import LAUNCH, RunLock
from pipeline.runtime.signals import EXIT_REQUEUE

RANK = """
import os, pathlib, signal, sys, time
from pipeline.runtime.lock import RunLock
with RunLock(sys.argv[1]):
    os.kill(os.getppid(), signal.SIGTERM)
    deadline = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < deadline:
        if (pathlib.Path(sys.argv[1]) / "stop").exists():
            sys.exit(130)
        time.sleep(0.05)
sys.exit(0)
"""


def remote(folder: Path, launch: str, seconds: int) -> tuple[Plan, Machine]:
    """A plan of which no rank is here, and the machine that starts it as launch `a1`."""
    command = (sys.executable, "-c", RANK, str(folder), str(seconds))
    machine = Machine(sys.executable, 0, 2, 0, str(folder / "ops"), {}, launch="a1")
    environment = {LAUNCH: launch, "TORCH_EXTENSIONS_DIR": machine.extensions}
    return Plan(command, environment, num_ranks=1), machine


def test_its_own_ranks_are_asked_and_nothing_is_left(tmp_path: Path) -> None:
    assert run_here(*remote(tmp_path, "a1", 60), str(tmp_path)) == EXIT_REQUEUE
    assert not (tmp_path / "stop").exists()


def test_what_somebody_else_asked_for_stays(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    assert run_here(*remote(tmp_path, "a1", 60), str(tmp_path)) == EXIT_REQUEUE
    assert (tmp_path / "stop").exists()


def test_ranks_of_another_launch_are_not_asked(tmp_path: Path) -> None:
    assert run_here(*remote(tmp_path, "b2", 3), str(tmp_path)) == 0


def test_a_second_launch_of_a_run_that_trains_is_refused(tmp_path: Path) -> None:
    plan, machine = remote(tmp_path, "a1", 0)
    with RunLock(tmp_path), pytest.raises(RunError, match=r"trains now: process \d+ on .*; wait for it to end"):
        run_here(plan, machine, str(tmp_path))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
