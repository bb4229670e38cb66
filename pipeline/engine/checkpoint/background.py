"""One thread beside training for slow work on files: one job at a time, its failure kept until it is asked for."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Background:
    """Runs a job beside the main thread. No job may call a collective: their order belongs to the main thread."""

    def __init__(self, name: str) -> None:
        """Start nothing yet."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._job: Future[Any] | None = None

    def start(self, job: Callable[[], Any]) -> None:
        """Start a job; the one before must have been taken."""
        assert self._job is None
        self._job = self._executor.submit(job)

    @property
    def is_busy(self) -> bool:
        """Whether a job runs."""
        return self._job is not None and not self._job.done()

    def result(self) -> Any:
        """What the job returned, waited for; raises what it raised."""
        assert self._job is not None
        job, self._job = self._job, None
        return job.result()

    def close(self) -> None:
        """Wait for the job and end the thread."""
        self._executor.shutdown(wait=True)
