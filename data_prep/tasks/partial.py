"""Folders that a task is at work in: whose they are, and which ones a killed process left."""

import os
import secrets
import shutil
import socket
import time
from functools import cache
from pathlib import Path

import psutil

_SUFFIX = ".partial"
_DAY_SECONDS = 86_400


def own_suffix() -> str:
    """What names of unfinished folders end in; it tells which process is at work there."""
    return f".{socket.gethostname()}-{os.getpid()}-{_token(os.getpid())}{_SUFFIX}"


@cache
def _token(pid: int) -> str:
    """Tells this process from an earlier one of the same number, which containers give again and again."""
    return secrets.token_hex(4)


def clear_partial(work: Path) -> None:
    """Delete what killed tasks left: those of this machine's dead processes, those of others after a day."""
    for path in work.glob(f"*/*{_SUFFIX}"):
        if not _is_at_work(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_at_work(partial: Path) -> bool:
    # what comes before the first point has none; a host's name may have some
    process, _, token = partial.name.removesuffix(_SUFFIX).partition(".")[2].rpartition("-")
    host, _, pid = process.rpartition("-")
    if host == socket.gethostname() and pid.isdecimal():
        return token == _token(os.getpid()) if int(pid) == os.getpid() else _is_running(int(pid))
    return time.time() - partial.stat().st_mtime < _DAY_SECONDS


def _is_running(pid: int) -> bool:
    """Whether there is such a process; one that has ended but was not waited for yet is none."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
