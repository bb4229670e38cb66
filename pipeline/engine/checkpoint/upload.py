"""Copies of a run's checkpoints in an object store, made beside training. What goes wrong there never harms it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.engine.checkpoint.commit import Commit, step_name
from pipeline.engine.checkpoint.copies import RUN_FILES, Copies
from pipeline.engine.checkpoint.sending import send_checkpoint
from pipeline.errors import CheckpointError, TarmacError
from pipeline.runtime.logs import get_logger

_log = get_logger("checkpoints")


class Uploader:
    """Sends checkpoints that are committed to a URL, one at a time, in a thread of its own; for rank 0.

    While one is sent the newest waits; those between get no copy. A failure is told, and the next checkpoint is tried.
    Copies are never deleted, how long they are kept is for the store's own rules; only one of the same step by another
    branch of the run is replaced. The files of the run from which its folder can be made again go there too.
    """

    def __init__(
        self, checkpoints: Path, url: str, tell: Callable[..., None], is_ours: Callable[[Commit], bool]
    ) -> None:
        """Set up; no thread runs and nothing is asked of the network before the first checkpoint.

        Args:
            checkpoints: The run's `checkpoints` folder.
            url: Where the copies go.
            tell: Told `upload` (step, bytes, seconds) and `upload_failed` (step, reason), as a journal is, in the
                uploader's thread; it raises nothing.
            is_ours: Whether a commit that is found at the URL is of this run. Another run's copies are left alone.

        Raises:
            MissingDependencyError: The package for the protocol is not installed.
            ConfigError: There is no such protocol.
        """
        self._copies = Copies(url, self._pause)
        self._checkpoints, self._tell, self._is_ours = checkpoints, tell, is_ours
        self._sent: dict[str, tuple[int, int]] = {}  # size and time of files of the run that are there
        self._change = threading.Condition()
        self._sending: int | None = None
        self._waiting: int | None = None
        self._newest: int | None = None  # offered
        self._copied: int | None = None
        self._is_there = True  # what was offered last; its step may have been offered before a rollback as well
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def offer(self, step: int) -> None:
        """Send the checkpoint of a step as soon as the one before is done with; returns at once.

        What is there already is not sent again, so the checkpoint that a run resumes from can be offered too.
        """
        with self._change:
            passed, self._waiting, self._newest, self._is_there = self._waiting, step, step, False
            if self._thread is None:
                # a daemon, so that a process that ends does not wait for an upload
                self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
                self._thread.start()
            self._change.notify_all()
        if passed is not None:
            _log.info("step %d  gets no copy at %s: the one before is still being sent, and step %d is newer",
                      passed, self._copies, step)  # fmt: skip

    def in_use(self) -> set[int]:
        """Steps whose checkpoints must stay: being sent, or waiting for it."""
        with self._change:
            return {step for step in (self._sending, self._waiting) if step is not None}

    def finish(self, seconds: float) -> bool:
        """Wait so long at most until all is sent, then send nothing more; whether the last one offered is there."""
        with self._change:
            in_time = self._change.wait_for(lambda: self._sending is None and self._waiting is None, seconds)
            self._is_over.set()
            self._change.notify_all()
            newest, copied, is_there = self._newest, self._copied, self._is_there
        if is_there:
            return True
        reason = "it could not be sent" if in_time else f"it was not sent within {seconds:g} s"
        older = "there is no other of this session" if copied is None else f"the newest one is of step {copied}"
        _log.warning("step %d  has no copy at %s: %s; %s", newest, self._copies, reason, older)
        if not in_time:
            self._tell("upload_failed", step=newest, reason=reason)
        return False

    def _pause(self, seconds: float) -> None:
        if self._is_over.wait(seconds):
            raise CheckpointError("the run ended before it was sent")

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting is not None or self._is_over.is_set())
                if self._is_over.is_set():
                    return
                self._sending, self._waiting = self._waiting, None
            assert self._sending is not None
            is_copied = self._copy(self._sending)
            with self._change:
                self._copied = self._sending if is_copied else self._copied
                self._is_there = is_copied and self._waiting is None
                self._sending = None
                self._change.notify_all()

    def _copy(self, step: int) -> bool:
        """Send a checkpoint and tell of it; whether its copy is there."""
        start = time.monotonic()
        try:
            self._require_ours()
            self._send_run_files()
            num_bytes = send_checkpoint(self._copies, self._checkpoints / step_name(step))
        except (TarmacError, OSError) as error:
            if not self._is_over.is_set():  # else it was told by who ended it
                _log.warning("step %d  has no copy: %s; the next checkpoint will be tried", step, error)
                self._tell("upload_failed", step=step, reason=str(error))
            return False
        seconds = time.monotonic() - start
        if num_bytes:
            self._tell("upload", step=step, bytes=num_bytes, seconds=round(seconds, 3))
            _log.info("step %d  copied %.1f MB to %s in %.1f s", step, num_bytes / 1e6, self._copies, seconds)
        return True

    def _require_ours(self) -> None:
        """Raises CheckpointError if the URL holds another run's copies, which might be replaced."""
        for step in reversed(self._copies.steps()):
            try:
                found = self._copies.commit(step)
            except CheckpointError:
                continue
            if found is not None and not self._is_ours(found):
                raise CheckpointError(
                    f"{self._copies} holds checkpoints of another run; give checkpoints.upload a folder of its own"
                )
            if found is not None:
                return

    def _send_run_files(self) -> None:
        """Send what changed of the run's files, before the checkpoint whose seal tells of them."""
        run = self._checkpoints.parent
        paths = [path for name in RUN_FILES for path in (run / name, *(run / name).rglob("*")) if path.is_file()]
        for path in paths:
            name, status = str(path.relative_to(run)), path.stat()
            version = (status.st_size, status.st_mtime_ns)
            if self._sent.get(name) != version:
                self._copies.write(name, path.read_bytes())  # as it is now: the journal grows
                self._sent[name] = version
