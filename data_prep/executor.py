"""Running tasks: in this process, or in worker processes on this machine. Results come in the order of the tasks."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from types import TracebackType
from typing import TypeVar

from rich.console import Console

from data_prep.progress import PhaseProgress
from pipeline.config.prep import LocalExecutor
from pipeline.errors import CorpusError

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor:
    """Runs one phase after another and keeps the time of each."""

    def __init__(self, config: LocalExecutor, console: Console) -> None:
        """Prepare `config.workers` processes; they start with the first phase of more than one task."""
        self.workers = config.workers or len(os.sched_getaffinity(0))
        self.seconds: dict[str, float] = {}
        self._console = console
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Executor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers; tasks that have not begun are given up."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def run(self, phase: str, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """`function` of every task. An error in one of them is raised here.

        Raises:
            CorpusError: A worker was killed.
        """
        with self._phase(phase, len(tasks)) as progress:
            return self._results(function, tasks, progress)

    def run_here(self, phase: str, function: Callable[[], Result]) -> Result:
        """One function's result, in this process."""
        with self._phase(phase, 1) as progress:
            result = function()
            progress.advance()
        return result

    @contextmanager
    def _phase(self, phase: str, num_tasks: int) -> Iterator[PhaseProgress]:
        start = time.monotonic()
        with PhaseProgress(self._console, phase, num_tasks) as progress:
            yield progress
        self.seconds[phase] = time.monotonic() - start

    def _results(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], progress: PhaseProgress
    ) -> list[Result]:
        if self.workers == 1 or len(tasks) <= 1:
            return list(_one_by_one(function, tasks, progress))
        try:
            futures = [self._start().submit(function, task) for task in tasks]
            for future in as_completed(futures):
                future.result()
                progress.advance()
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise CorpusError(
                f"a worker of {self.workers} was killed, perhaps for want of memory; lower executor.workers"
            ) from error

    def _start(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=get_context("spawn"), initializer=_leave_interrupts
            )
        return self._pool


def _one_by_one(function: Callable[[Task], Result], tasks: Sequence[Task], progress: PhaseProgress) -> Iterator[Result]:
    for task in tasks:
        yield function(task)
        progress.advance()


def _leave_interrupts() -> None:
    """Ctrl-C reaches the whole process group; the parent handles it and ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
