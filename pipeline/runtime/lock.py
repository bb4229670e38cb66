"""One job per run folder, also where the file system's locks are missing or reach no other host."""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.errors import RunError
from pipeline.runtime.logs import get_logger

LAUNCH = "TARMAC_LAUNCH"
"""The variable that names the launch which a process belongs to, where one does."""

_RECORD_BYTES = 512
_HEARTBEATS_TO_WATCH = 3

_log = get_logger("lock")


class RunLock:
    """A lock on a folder, held by one process while its job runs; a context manager.

    The kernel's lock, which ends with the process, comes first. But a file system may have none, or one that only its
    own host sees (NFS `local_lock`, Lustre `localflock`). So the file `lock` also says who holds it, is touched every
    few seconds while held, and is emptied at release. Where it names an owner that did not release it, this decides:

    - the owner ran on this host: whether that process still lives;
    - on another one: whether the file is touched while we look, for 15 s. Its times are only compared with each other,
      as clocks of hosts differ. A job that restarts elsewhere after a crash waits these 15 s for nothing: nobody can
      know whether a lock that was granted would have been refused to another host.

    An owner that cannot touch the file for 15 s, because it is suspended, may lose the lock. So may one of two that
    start within the same milliseconds where locks do not work. It is told by `lost` within 5 s.
    """

    def __init__(self, folder: str | Path, heartbeat_seconds: float = 5.0) -> None:
        """Prepare the lock of `folder`, which must exist."""
        self.path = Path(folder) / "lock"
        self.lost = False
        """Whether another process took the lock over: this one must end, and write nothing more into the folder."""
        self._heartbeat_seconds = heartbeat_seconds
        self._descriptor: int | None = None
        self._me = _this_process()
        self._releasing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lock", daemon=True)

    def __enter__(self) -> "RunLock":
        """Take the lock, after 15 s if an owner on another host did not release it.

        Raises:
            RunError: Another process holds it.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock, unless another process has it. Where the disk takes no more, it ends with this process."""
        if self._descriptor is None:
            return
        self._releasing.set()
        self._thread.join()
        try:
            if _parse(os.pread(self._descriptor, _RECORD_BYTES, 0)) == self._me:
                os.ftruncate(self._descriptor, 0)
        except OSError as error:
            _log.warning("%s cannot be released (%s); the next job will take it over", self.path, error.strerror)
        os.close(self._descriptor)
        self._descriptor = None

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise self._in_use(os.pread(descriptor, _RECORD_BYTES, 0)) from error
        except OSError as error:
            _log.info("%s: no locks on this file system (%s)", self.path, error.strerror)
        content = os.pread(descriptor, _RECORD_BYTES, 0)
        if content:
            self._take_over(content)
        os.pwrite(descriptor, json.dumps(self._me).encode().ljust(_RECORD_BYTES), 0)  # at once: never seen empty
        os.fsync(descriptor)

    def _take_over(self, content: bytes) -> None:
        """Return if the owner is gone. Raises RunError if it lives."""
        record = _parse(content)
        if _is_of_this_host(record):
            if _is_alive(record):
                raise self._in_use(content)
        elif self._is_touched(content):
            raise self._in_use(content, ", which was seen alive")
        _log.warning("%s ended without releasing %s; taken over", _owner(content), self.path)

    def _is_touched(self, content: bytes) -> bool:
        """Whether the file changes while we look."""
        seconds = _HEARTBEATS_TO_WATCH * self._heartbeat_seconds
        _log.warning("folder %s was not released by %s; looking %.0f s for signs of life", self.path.parent,
                     _owner(content), seconds)  # fmt: skip
        first = self._look()
        for _ in range(2 * _HEARTBEATS_TO_WATCH):
            time.sleep(self._heartbeat_seconds / 2)
            if self._look() != first:
                return True
        return False

    def _look(self) -> tuple[int, bytes]:
        """When the file was touched, and its content. It is opened each time: only that makes an NFS client ask."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            return os.fstat(descriptor).st_mtime_ns, os.read(descriptor, _RECORD_BYTES)
        finally:
            os.close(descriptor)

    def _keep(self) -> None:
        """Touch the file until it is released, or no longer ours."""
        while not self._releasing.wait(self._heartbeat_seconds):
            try:
                self._touch()
            except OSError as error:
                _log.warning("%s cannot be touched (%s); trying again", self.path, error.strerror)
            if self.lost:
                return

    def _touch(self) -> None:
        assert self._descriptor is not None
        _, content = self._look()
        if _parse(content) == self._me:
            os.utime(self._descriptor)
            return
        self.lost = True
        owner = _owner(content)
        _log.error("the lock of folder %s was taken over by %s; this job must end", self.path.parent, owner)

    def _in_use(self, content: bytes, seen: str = "") -> RunError:
        return RunError(
            f"folder {self.path.parent} is in use by {_owner(content)}{seen};"
            " wait for it to end or choose another output"
        )


def holder(folder: str | Path) -> str | None:
    """Who holds a folder's lock, in words; None if nobody does, or it is not known to live.

    An owner on this host is looked for. Of one on another host only the file's time tells: it is touched every few
    seconds, so one that is older than a minute is taken for left over.
    """
    path = Path(folder) / "lock"
    try:
        content, touched = path.read_bytes()[:_RECORD_BYTES], path.stat().st_mtime
    except FileNotFoundError:
        return None
    record = _parse(content)
    is_alive = _is_alive(record) if _is_of_this_host(record) else bool(record) and time.time() - touched < 60
    return _owner(content) if is_alive else None


def launch_of(folder: str | Path) -> str | None:
    """Which launch the process belongs to that is written in a folder's lock, alive or not. Raises OSError."""
    launch = _parse((Path(folder) / "lock").read_bytes()[:_RECORD_BYTES]).get("launch")
    return None if launch is None else str(launch)


def _this_process() -> dict[str, Any]:
    """Who this process is: no other one, on any host, before or after, has an equal record."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "pid_namespace": os.readlink("/proc/self/ns/pid"),
        "launch": os.environ.get(LAUNCH),
    }


def _parse(content: bytes) -> Mapping[str, Any]:
    try:
        record = json.loads(content)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _owner(content: bytes) -> str:
    """Who holds a lock, in words, by what is written in it."""
    record = _parse(content)
    return f"process {record['pid']} on {record['host']}" if {"pid", "host"} <= record.keys() else "an unknown process"


def _is_of_this_host(record: Mapping[str, Any]) -> bool:
    """Whether we would see the owner's process: containers on one host have numbers of their own."""
    me = _this_process()
    return all(record.get(key) == me[key] for key in ("boot", "pid_namespace"))


def _is_alive(record: Mapping[str, Any]) -> bool:
    """Whether the process lives and no other one has its number since."""
    return record.get("started") is not None and _started(record["pid"]) == record["started"]


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it ended, whether or not its parent has noticed."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(fields[18])
