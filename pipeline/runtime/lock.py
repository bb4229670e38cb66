"""One job per run folder."""

import fcntl
import json
import os
import socket
from pathlib import Path
from types import TracebackType

from pipeline.errors import RunError
from pipeline.runtime.logs import get_logger

_log = get_logger("lock")


class RunLock:
    """A lock on a run folder, held by rank 0 while the job runs; the kernel drops it when the process ends.

    On a file system without locks there is a warning and no protection.
    """

    def __init__(self, folder: str | Path) -> None:
        """Prepare the lock of `folder`, which must exist."""
        self.path = Path(folder) / "lock"
        self._descriptor: int | None = None

    def __enter__(self) -> "RunLock":
        """Take the lock. Raises RunError if another process holds it."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = _owner(os.read(descriptor, 4096))
            os.close(descriptor)
            raise RunError(
                f"folder {self.path.parent} is in use by {owner}; wait for it to end or choose another output"
            ) from error
        except OSError as error:
            _log.warning("%s: no locks on this file system (%s); let only one job use it", self.path, error)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode())
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _owner(content: bytes) -> str:
    """Who holds a lock, in words, by what is written in it."""
    try:
        owner = json.loads(content)
        return f"process {owner['pid']} on {owner['host']}"
    except (ValueError, TypeError, KeyError):
        return "an unknown process"
