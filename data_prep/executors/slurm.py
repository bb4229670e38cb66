"""Job arrays of a SLURM cluster whose nodes see the same folders.

The items of one `map` become arrays of at most `max_array_size` array tasks, one array after the other. What an array
task has to do lies in `<work>/jobs/<phase>-<digest>/`, with its log; that folder goes when its tasks are finished.
"""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from data_prep.executors import slurm_queue
from data_prep.executors.worker import ERROR_SUFFIX, TASKS_NAME, pack, read_error
from data_prep.tasks.runner import Item
from data_prep.tasks.store import find_done
from pipeline.config.prep.executors import SlurmExecutor
from pipeline.errors import ConfigError, CorpusError, TarmacError
from pipeline.runtime.files import atomic_file
from pipeline.runtime.logs import get_logger

DEFAULT_WORKERS = 64
MAX_FRUITLESS = 3
"""Arrays in a row that may end without one more finished task."""
_LOST = ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED", "COMPLETED", "GONE")
"""States after which an unfinished array task is submitted again. COMPLETED: the disk is slow to show its files;
GONE: SLURM has forgotten it while this process slept."""
_FAILED = ("FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY", "SPECIAL_EXIT")
_AGAIN = "then give the same command: finished tasks are kept"

_log = get_logger("slurm")


class SlurmArrays:
    """Array tasks of SLURM, each of which runs one task or a few."""

    def __init__(self, config: SlurmExecutor, workers: int | None) -> None:
        """Prepare to run so many array tasks at a time, or 64."""
        self.workers = workers or DEFAULT_WORKERS
        self._config = config

    def __enter__(self) -> "SlurmArrays":
        """Raises ConfigError if SLURM's commands are missing."""
        slurm_queue.require_slurm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left to end: `map` cancels its jobs itself."""

    def map(self, function: Callable[[Item], None], items: Sequence[Item], advance: Callable[[], None]) -> None:
        """Run all items; jobs of a driver that was killed are cancelled first.

        Raises:
            ConfigError: SLURM refuses the job, or its limits of time or memory are too low.
            CorpusError: An array task was cancelled, died, or was lost again and again.
            TarmacError: What a task raises.
        """
        assert isinstance(function, partial)
        work = Path(function.args[0]).absolute()  # finished tasks are seen there
        cancel_left_over(work)
        size = self._config.max_array_size * self._config.tasks_per_job
        for start in range(0, len(items), size):
            _JobArray(self._config, self.workers, work, items[start : start + size], advance).run(function)


def cancel_left_over(work: Path) -> None:
    """End the jobs that a killed driver left, known by their folders, so that no two workers run one task.

    Their folders go too: the tasks in them may hold addresses with a signature.
    """
    folders = sorted(work.glob("jobs/*"))
    if folders and shutil.which("scancel") is None:
        _log.warning("%s has jobs of SLURM that may go on; cancel them where scancel is and delete it", work / "jobs")
        return
    slurm_queue.cancel([_job_name(folder) for folder in folders], wait=True)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _job_name(folder: Path) -> str:
    return f"tarmac-{folder.name}"


class _JobArray:
    """Items of one phase that fit into one array."""

    def __init__(
        self, config: SlurmExecutor, workers: int, work: Path, items: Sequence[Item], advance: Callable[[], None]
    ) -> None:
        self._config, self._workers, self._work, self._advance = config, workers, work, advance
        each = config.tasks_per_job
        self._shares = [list(items[start : start + each]) for start in range(0, len(items), each)]
        self._unfinished = dict(enumerate(self._shares))
        self._phase_folder = (work / items[0][1]).parent

    def run(self, function: Callable[[Item], None]) -> None:
        """Submit, wait, and submit again what was lost, until everything is finished."""
        content = pack((self._work, function, self._shares))
        sha256 = hashlib.sha256(content).hexdigest()
        folder = self._work / "jobs" / f"{self._phase_folder.name}-{sha256[:16]}"
        for path in (folder, self._phase_folder):
            path.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / TASKS_NAME) as file:
            file.write(content)
        try:
            self._finish(folder, [sys.executable, "-m", "data_prep.executors.worker", str(folder), sha256])
        except BaseException:
            slurm_queue.cancel([_job_name(folder)], wait=False)
            raise
        shutil.rmtree(folder, ignore_errors=True)  # the last array task may be writing the last of its log

    def _finish(self, folder: Path, command: Sequence[str]) -> None:
        fruitless = 0
        while before := self._num_unfinished():
            self._run_round(folder, command)
            fruitless = 0 if self._num_unfinished() < before else fruitless + 1
            if fruitless == MAX_FRUITLESS:
                raise CorpusError(
                    f"{fruitless} job arrays in a row were lost without one more finished task of"
                    f" {self._phase_folder.name}; look for what their nodes say and whether all see work"
                    f" ({self._work}), {_AGAIN}"
                )

    def _num_unfinished(self) -> int:
        return sum(map(len, self._unfinished.values()))

    def _run_round(self, folder: Path, command: Sequence[str]) -> None:
        """One job: until each of its array tasks is finished or lost."""
        name, waiting = _job_name(folder), set(self._unfinished)
        job = slurm_queue.submit(self._config, name, sorted(waiting), self._workers, command, folder)
        while waiting:
            time.sleep(self._config.poll_seconds)
            states = slurm_queue.states(name, job)  # first: when a task has ended, its files are there
            self._collect()
            _raise_told(folder)
            waiting &= self._unfinished.keys()
            if states is not None:
                waiting -= self._lost(folder, {number: states.get(number, "GONE") for number in waiting})

    def _collect(self) -> None:
        """Count what has been finished since the last time."""
        # the listing comes first: opening a folder makes NFS look again, opening a file that was missing does not
        names = set(os.listdir(self._phase_folder))
        for number, items in list(self._unfinished.items()):
            left = [item for item in items if Path(item[1]).name not in names or find_done(self._work, *item) is None]
            for _ in range(len(items) - len(left)):
                self._advance()
            self._unfinished[number] = left
            if not left:
                del self._unfinished[number]

    def _lost(self, folder: Path, states: dict[int, str]) -> set[int]:
        """Array tasks that are to be submitted again. Raises a TarmacError for one that would fail again."""
        for number, state in states.items():
            if state in _FAILED:
                raise failure(self._config, self._phase_folder.name, state, folder / f"{number}.log")
        lost = {number for number, state in states.items() if state in _LOST}
        if lost:
            why = ", ".join(sorted({states[number] for number in lost}))
            _log.warning("%d array tasks of %s will be submitted again (%s)", len(lost), self._phase_folder.name, why)
        return lost


def failure(config: SlurmExecutor, phase: str, state: str, log: Path) -> TarmacError:
    """The error of an array task that ended without telling one."""
    match state:
        case "TIMEOUT" | "DEADLINE":
            return ConfigError(
                f"executor.time ({config.time}) is too short for an array task of {phase}; raise it"
                f" or lower executor.tasks_per_job ({config.tasks_per_job}), {_AGAIN}"
            )
        case "OUT_OF_MEMORY":
            return ConfigError(
                f"executor.memory_gb ({config.memory_gb}) is too little for a task of {phase}; raise it, {_AGAIN}"
            )
        case "CANCELLED":
            return CorpusError(f"an array task of {phase} was cancelled; find out by whom, {_AGAIN}")
    return CorpusError(f"an array task of {phase} died ({_last_line(log)}); read {log}, {_AGAIN}")


def _raise_told(folder: Path) -> None:
    """Raise the error of the first array task that tells one."""
    for name in sorted(os.listdir(folder)):
        if name.endswith(ERROR_SUFFIX):
            raise read_error(folder / name)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
    except FileNotFoundError:
        return "without a log: do all nodes see work?"
    return lines[-1] if lines else "it said nothing, so perhaps it was killed for want of memory"
