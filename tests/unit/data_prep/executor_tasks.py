"""Tasks small enough to try executors with; workers import them from here."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from data_prep.tasks.task import Task
from pipeline.errors import TokenizerError


@dataclass(frozen=True)
class Square(Task):
    """Writes the square of a number, and a line in a common log whenever it runs."""

    phase: ClassVar[str] = "squares"
    result_type: ClassVar[type] = int
    number: int

    def run(self, work: Path, folder: Path) -> int:
        with open(work / "ran.log", "a") as log:
            log.write(f"{self.number}\n")
        (folder / "square.txt").write_text(str(self.number**2))
        return self.number**2


@dataclass(frozen=True)
class Refused(Task):
    """Raises an error of the user's."""

    phase: ClassVar[str] = "refused"
    result_type: ClassVar[type] = int
    number: int

    def run(self, work: Path, folder: Path) -> int:
        raise TokenizerError(f"number ({self.number}) is not wanted; take another")


@dataclass(frozen=True)
class Gated(Task):
    """Tells by a file that it runs, and in which process, then waits for another file; then it may refuse."""

    phase: ClassVar[str] = "gated"
    result_type: ClassVar[type] = int
    number: int
    gate: str = field(default="open", compare=False)
    refused: bool = False

    def run(self, work: Path, folder: Path) -> int:
        (work / f"running-{self.number}-{os.getpid()}").touch()
        while not (work / self.gate).exists():
            time.sleep(0.05)
        if self.refused:
            raise TokenizerError(f"number ({self.number}) is not wanted; take another")
        (folder / "number.txt").write_text(str(self.number))
        return self.number


@dataclass(frozen=True)
class Killed(Task):
    """Kills its process the first so many times."""

    phase: ClassVar[str] = "killed"
    result_type: ClassVar[type] = int
    times: int

    def run(self, work: Path, folder: Path) -> int:
        with open(work / "deaths.log", "a") as log:
            log.write("died\n")
        if len((work / "deaths.log").read_text().split()) <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.times


@dataclass(frozen=True)
class Counted(Task):
    """Returns how many of its kind run at the same time."""

    phase: ClassVar[str] = "counted"
    result_type: ClassVar[type] = int
    number: int

    def run(self, work: Path, folder: Path) -> int:
        mark = work / f"counted-{self.number}.mark"
        mark.touch()
        time.sleep(0.3)  # the others' time to begin, if they may
        count = len(list(work.glob("counted-*.mark")))
        mark.unlink()
        return count


@dataclass(frozen=True)
class IgnoresCtrlC(Task):
    """Tells whether its process does."""

    phase: ClassVar[str] = "ignores"
    result_type: ClassVar[type] = bool
    number: int

    def run(self, work: Path, folder: Path) -> bool:
        return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def ran(work: Path) -> list[int]:
    """Which squares were computed, each as often as it was."""
    log = work / "ran.log"
    return sorted(map(int, log.read_text().split())) if log.exists() else []


def begun(work: Path) -> list[Path]:
    """A file for each beginning of a gated task."""
    return sorted(work.glob("running-*"))


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited for two minutes"
        time.sleep(0.05)
