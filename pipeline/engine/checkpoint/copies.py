"""Copies of checkpoints in a folder of an object store: what is where, and asking for it with patience.

    s3://bucket/run/
      config.yaml  model.json  …    files of the run, from which its folder is made again where that is lost
      step-00001000/SENDING.json    sent first: the commit that the files beside it belong to
      step-00001000/state/…
      step-00001000/COMMIT.json     sent last: without it there is no copy

An upload that was killed may leave parts of a file that no listing shows; let a rule of the bucket remove these
(S3: `AbortIncompleteMultipartUpload`).
"""

import errno
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pipeline.corpus.remote.patience import DamagedBodyError, Patience
from pipeline.corpus.remote.store import Store
from pipeline.corpus.remote.urls import is_url, join, shown
from pipeline.engine.checkpoint.commit import COMMIT_NAME, Commit, read_commit, step_name
from pipeline.errors import CheckpointError, CorpusError

RUN_FILES = ("journal.jsonl", "model.json", "tokenizer", "config.yaml")
"""Files and folders of a run folder that a resumed run needs besides a checkpoint."""
ATTEMPTS = 8
FIRST_PAUSE_SECONDS = 0.5
_TIMEOUT_SECONDS = 60
"""How long a connection may be silent before the attempt has failed."""

Result = TypeVar("Result")


class Copies(Store):
    """A folder of copies. Every method tries again what may pass, and raises CheckpointError when it gives up."""

    def __init__(self, url: str, sleep: Callable[[float], None] = time.sleep) -> None:
        """Prepare; nothing is asked of the network yet.

        Args:
            url: Of the folder.
            sleep: Waits between attempts; asked before each request too (0 seconds), so that it can end all by raising.

        Raises:
            MissingDependencyError: The package for the protocol is not installed.
            ConfigError: There is no such protocol.
        """
        super().__init__(url, Patience(ATTEMPTS, FIRST_PAUSE_SECONDS, sleep=sleep), _TIMEOUT_SECONDS)
        self._sleep = sleep

    def steps(self) -> list[int]:
        """Steps that have a folder, ascending; with a copy that is whole, or one that is on its way."""
        place = self._place("")
        found = self.patiently("", "listed", lambda: _unless_missing(lambda: self._system.ls(place, detail=False)))
        names = (path.rstrip("/").rpartition("/")[2] for path in found or [])
        return sorted(step for name in names if (step := _step(name)) is not None)

    def run_files(self) -> list[str]:
        """The files of the run, by their path in its folder."""
        return [f"{name}/{inner}" if inner else name for name in RUN_FILES for inner in self.sizes(name)]

    def sizes(self, name: str) -> dict[str, int]:
        """The files of a folder by their path in it, and their sizes in bytes; of a file, itself by an empty path."""
        place = self._place(name)
        found = self.patiently(name, "listed", lambda: _unless_missing(lambda: self._system.find(place, detail=True)))
        return {path[len(place) + 1 :]: info["size"] for path, info in (found or {}).items()}

    def content(self, name: str) -> bytes | None:
        """A small file; None if there is none."""
        return self.patiently(name, "fetched", lambda: _unless_missing(lambda: self.read(name)))

    def commit(self, step: int) -> Commit | None:
        """The commit of a step's copy; None if there is no copy. Raises CheckpointError if it is damaged."""
        content = self.content(f"{step_name(step)}/{COMMIT_NAME}")
        if content is None:
            return None
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / step_name(step)
            folder.mkdir()
            (folder / COMMIT_NAME).write_bytes(content)
            return read_commit(folder)

    def send(self, path: Path, name: str) -> None:
        """Upload a file, and see that as many bytes are there; S3's client sends checksums, which S3 compares."""

        def attempt() -> None:
            self._system.put_file(str(path), self._ready(name))
            there, here = self._system.info(self._place(name))["size"], path.stat().st_size
            if there != here:
                raise DamagedBodyError(f"{there} bytes are there, should be {here}")

        self.patiently(name, "sent", attempt)

    def write(self, name: str, content: bytes) -> None:
        """Upload a small file."""
        self.patiently(name, "sent", lambda: self._system.pipe_file(self._ready(name), content))

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        self.patiently(name, "deleted", lambda: _unless_missing(lambda: self._system.rm_file(self._place(name))))

    def patiently(self, name: str, deed: str, attempt: Callable[[], Result]) -> Result:
        """The result of `attempt`, tried again as long as its failures may pass.

        Raises:
            CheckpointError: It failed for good, or too often: the file's URL cannot be `deed`.
        """
        failures: list[Exception] = []

        def noted() -> Result:
            try:
                return attempt()
            except Exception as error:  # every network package has its own; all are told in the sentence below
                failures.append(error)
                raise

        self._sleep(0)
        try:
            return self.patience.result(self.shown(name), noted)
        except CorpusError:
            error = failures[-1]
        times = f" after {len(failures)} attempts" if len(failures) > 1 else ""
        said = shown(str(error)) or type(error).__name__
        raise CheckpointError(f"{self.shown(name)} cannot be {deed}{times} ({said}); {_cure(error)}")

    def _place(self, name: str) -> str:
        return self._path(join(self._url, name)).rstrip("/")

    def _ready(self, name: str) -> str:
        """Where a file goes; a file system has folders, which are made."""
        place = self._place(name)
        if not is_url(self._url):
            self._system.makedirs(place.rpartition("/")[0], exist_ok=True)
        return place


def _unless_missing(attempt: Callable[[], Result]) -> Result | None:
    """What it returns; None if there is no such file or folder."""
    try:
        return attempt()
    except FileNotFoundError:
        return None


def _step(name: str) -> int | None:
    """The step that a folder is named after."""
    digits = name.removeprefix("step-")
    return int(digits) if digits.isdecimal() and name == step_name(int(digits)) else None


def _cure(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space"
    if isinstance(error, DamagedBodyError):
        return "what is there is damaged"
    return "check the address, the network and your credentials"
