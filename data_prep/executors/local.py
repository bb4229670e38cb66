"""Worker processes on this machine."""

import ctypes
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType

from data_prep.tasks.runner import Item
from pipeline.errors import CorpusError

_PR_SET_PDEATHSIG = 1
"""From Linux's <sys/prctl.h>: the signal that a process gets when its parent dies."""


class LocalProcesses:
    """A pool of processes; with one worker or one task, everything runs in this process."""

    def __init__(self, workers: int | None) -> None:
        """Prepare so many processes, or one for each core; they start with the first phase of more than one task."""
        self.workers = workers or len(os.sched_getaffinity(0))
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "LocalProcesses":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers; tasks that have not begun are given up."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Item], None], items: Sequence[Item], advance: Callable[[], None]) -> None:
        """Run all items. Raises what one of them raises, or CorpusError if a worker was killed."""
        if self.workers == 1 or len(items) <= 1:
            for item in items:
                function(item)
                advance()
            return
        try:
            for future in as_completed([self._start().submit(function, item) for item in items]):
                future.result()
                advance()
        except BrokenProcessPool as error:
            raise CorpusError(
                f"a worker of {self.workers} was killed, perhaps for want of memory; lower workers"
                " and give the same command: finished tasks are kept"
            ) from error

    def _start(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(os.getpid(),)
            )
        return self._pool


def _begin(parent: int) -> None:
    """Ctrl-C reaches the whole process group; the parent handles it and ends the workers. Without it they end too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os.kill(os.getpid(), signal.SIGKILL)
