"""SIGTERM and SIGUSR1: all ranks finish the same step, save, and exit with 85; asked again, at once."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.runs import Job, events, last_step, ledger, losses, write_recipe


@pytest.mark.parametrize(("number", "rank"), [(signal.SIGTERM, 1), (signal.SIGUSR1, 0)])
def test_a_signal_to_one_rank_ends_all_after_the_same_step(
    tmp_path: Path, corpus: Path, plain: Path, number: signal.Signals, rank: int
) -> None:
    recipe = write_recipe(tmp_path / "asked.yaml", corpus, checkpoints={"every_steps": 1000})
    with Job(recipe) as job:
        job.wait_for_step(5)
        job.send(number, rank)
        assert job.wait(30) == [85, 85]
    run = job.run
    stopped = events(run, "save")[-1]["step"]
    assert [max(ledger(run, one)) for one in (0, 1)] == [stopped, stopped]
    assert stopped < 60
    assert events(run, "end")[-1]["step"] == stopped
    with Job(recipe) as job:
        job.done()
    assert losses(run) == losses(plain)
    assert [ledger(run, one) for one in (0, 1)] == [ledger(plain, one) for one in (0, 1)]


def test_a_second_signal_ends_a_rank_at_once_that_waits_for_another(tmp_path: Path, corpus: Path) -> None:
    """Rank 1 is stopped, so that rank 0 waits in a collective for ever."""
    recipe = write_recipe(tmp_path / "twice.yaml", corpus, duration={"steps": 5000})
    with Job(recipe) as job:
        job.wait_for_step(3)
        job.send(signal.SIGSTOP, 1)
        time.sleep(1)
        job.send(signal.SIGTERM, 0)
        time.sleep(6)
        assert job.ranks[0].poll() is None
        step = last_step(job.run)
        job.send(signal.SIGTERM, 0)
        assert job.ranks[0].wait(3) == 128 + signal.SIGTERM
        assert last_step(job.run) == step


def test_a_signal_while_modules_are_imported_is_heard(tmp_path: Path, corpus: Path) -> None:
    recipe = write_recipe(tmp_path / "early.yaml", corpus, duration={"steps": 5000})
    process = subprocess.Popen([sys.executable, "-m", "pipeline.cli", "train", str(recipe)])
    try:
        while not catches(process.pid, signal.SIGUSR1):
            assert process.poll() is None
            time.sleep(0.002)
        assert not (tmp_path / "early").exists()
        process.send_signal(signal.SIGUSR1)
        assert process.wait(120) == 85
    finally:
        process.kill()
    (end,) = events(tmp_path / "early", "end")
    assert end["step"] < 5


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal, as its kernel says."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = (line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (number - 1) & 1)
