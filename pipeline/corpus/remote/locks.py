"""Locks between processes, and between threads of one. The kernel drops those of a process that ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock while the block runs; without waiting, say whether it was free."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        is_ours = _take(descriptor, wait)
        try:
            yield is_ours
        finally:
            if is_ours:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for a copy that a fork has
    finally:
        os.close(descriptor)


def _take(descriptor: int, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
