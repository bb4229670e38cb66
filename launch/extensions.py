"""DeepSpeed's compiled operators: a cache that a killed job cannot leave locked.

torch guards each build by a file named `lock`. A rank killed while compiling leaves it behind, and the next job waits
for it for ever. Every `tarmac launch` therefore holds a kernel lock on the cache, which ends with the process: who gets
it alone knows that nobody is building, and clears what was left.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RunError


@contextmanager
def extensions_cache(folder: Path) -> Iterator[None]:
    """Create the cache and hold it; stale build locks are removed first if no other launch holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RunError(
            f"the cache {folder} cannot be written ({error.strerror}); set TORCH_EXTENSIONS_DIR to a folder that can"
        ) from error
    try:
        _clear_stale_locks(folder, descriptor)
        yield
    finally:
        os.close(descriptor)


def _clear_stale_locks(folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # another launch may be building; its locks are alive
    else:
        for lock in folder.glob("*/lock"):
            lock.unlink(missing_ok=True)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
