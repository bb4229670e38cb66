"""Runs that log rows and train nothing, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.faults.runs import rows
from tests.faults.wandb_files import rows_in_files

ROOT = Path(__file__).parents[2]


def environment(more: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("WANDB")} | more


class Logging:
    """A process that logs rows of some steps to a run folder."""

    def __init__(self, run: Path, first: int, last: int, pause: float = 0.05, **more: str) -> None:
        self.run = run
        run.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "tests.faults.tracking_body", *map(str, (run, first, last, pause))]
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment(more), text=True, start_new_session=True,
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        self.longest = self.finish = 0.0
        self.warnings: list[str] = []

    def done(self) -> "Logging":
        """Wait for an orderly end, and for what was said."""
        said, errors = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, errors
        self.longest, self.finish = json.loads(said).values()
        self.warnings = errors.splitlines()
        return self

    def kill(self) -> None:
        """Kill it with its whole group, as launchers do."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def helpers(self) -> list[psutil.Process]:
        """All processes that it started."""
        return psutil.Process(self._process.pid).children(recursive=True)

    def helper(self, name: str) -> psutil.Process:
        """A process that it started, once that is there."""
        while True:
            assert self._process.poll() is None
            for process in self.helpers():
                with suppress(psutil.NoSuchProcess):
                    if name in " ".join(process.cmdline()):
                        return process
            time.sleep(0.02)


def wait_until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def logged(run: Path) -> list[int]:
    return [row["step"] for row in rows(run / "metrics.jsonl") if "train/loss" in row]


def kept(run: Path) -> list[int]:
    """Steps in W&B's files."""
    return [row["step"] for row in rows_in_files(run) if "train/loss" in row]
