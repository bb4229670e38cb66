"""Worker processes on this machine."""

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from threading import Thread
from types import TracebackType

from data_prep.tasks.runner import Item
from pipeline.errors import CorpusError

_PRELOADED = "data_prep.build"
"""With all that tasks need. One process imports it, while the inputs are looked for, and workers are its forks."""


class LocalProcesses:
    """A pool of processes; with one worker or one task, everything runs in this process."""

    def __init__(self, workers: int | None) -> None:
        """Prepare so many processes, or one for each core; they start with the first phase of more than one task."""
        self.workers = workers or len(os.sched_getaffinity(0))
        self._context = get_context("forkserver")
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "LocalProcesses":
        if self.workers > 1:
            self._context.set_forkserver_preload([_PRELOADED])
            _start_quietly()
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
            self._pool = ProcessPoolExecutor(self.workers, mp_context=self._context, initializer=_begin)
        return self._pool


def _start_quietly() -> None:
    """Start the process that workers are forks of. Ctrl-C, which reaches it too, is the job's affair."""
    resource_tracker.ensure_running()  # which would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Workers end with the job, however that ends; Ctrl-C reaches them too, and is the job's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_job, daemon=True).start()


def _end_with_job() -> None:
    if job := parent_process():
        job.join()
    os.kill(os.getpid(), signal.SIGKILL)
