import errno
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunError
from pipeline.runtime.lock import RunLock

BEAT_SECONDS = 0.2

HOLDER = """
import sys, time
from pipeline.runtime.lock import RunLock
with RunLock(sys.argv[1], heartbeat_seconds=0.2) as lock:
    print("held", flush=True)
    while not lock.lost:
        time.sleep(0.05)
    print("lost", flush=True)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system without locks.

    No such one can be mounted here without root, so the system call is made to answer as it does there, in this process
    alone.
    """

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "lock").read_text())


def edit(folder: Path, **changes: Any) -> None:
    (folder / "lock").write_text(json.dumps(record(folder) | changes))


ELSEWHERE = {"host": "node7", "pid": 4711, "boot": "of another host"}


@contextmanager
def beating(act: Callable[[], None]) -> Iterator[None]:
    """Does something again and again, as an owner on another host would."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(BEAT_SECONDS):
            act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def leave_behind(folder: Path, **changes: Any) -> None:
    """Leave the lock file of an owner that was killed."""
    with RunLock(folder):
        content = record(folder)
    (folder / "lock").write_text(json.dumps(content | changes))


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    with pytest.raises(RunError, match=r"is in use by .*; wait for it to end or choose another output") as error:
        RunLock(tmp_path).__enter__()
    assert f"folder {tmp_path} is in use by process {holder.pid} on {socket.gethostname()};" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_killed_owner_is_replaced_and_named(
    tmp_path: Path, holder: "subprocess.Popen[str]", caplog: pytest.LogCaptureFixture
) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    began = time.monotonic()
    with RunLock(tmp_path):
        assert record(tmp_path)["pid"] == os.getpid()
    assert time.monotonic() - began < 2  # on one host nobody has to wait
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert warning == (
        f"process {holder.pid} on {socket.gethostname()} ended without releasing {tmp_path}/lock; taken over"
    )


def test_a_killed_owner_that_its_parent_has_not_noticed_is_dead(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    with RunLock(tmp_path):
        assert record(tmp_path)["pid"] == os.getpid()


def test_it_is_free_after_the_block(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RunLock(tmp_path), pytest.raises(RunError):
        RunLock(tmp_path).__enter__()
    assert (tmp_path / "lock").read_bytes() == b""
    with RunLock(tmp_path):
        pass
    assert not caplog.records


def test_a_refused_process_changes_nothing(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        before = record(tmp_path)
        with pytest.raises(RunError):
            RunLock(tmp_path).__enter__()
        assert record(tmp_path) == before


@pytest.mark.usefixtures("no_flock")
def test_without_locks_a_living_owner_is_respected(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    with pytest.raises(RunError, match=f"in use by process {holder.pid} on"):
        RunLock(tmp_path).__enter__()
    holder.kill()
    holder.wait()
    with RunLock(tmp_path), pytest.raises(RunError, match=f"in use by process {os.getpid()} on"):
        RunLock(tmp_path).__enter__()
    assert (tmp_path / "lock").read_bytes() == b""


def test_a_process_that_got_the_owners_number_is_not_the_owner(tmp_path: Path) -> None:
    leave_behind(tmp_path, started=1)
    with RunLock(tmp_path):
        assert record(tmp_path)["started"] > 1


@pytest.mark.parametrize("change", [ELSEWHERE, {"pid_namespace": "pid:[1]"}])
def test_an_owner_out_of_sight_that_touches_the_file_is_alive(tmp_path: Path, change: dict[str, Any]) -> None:
    """The file is touched with times long past, as by a host whose clock is wrong."""
    times = iter(range(1, 1000))
    leave_behind(tmp_path, **change)
    with (
        beating(lambda: os.utime(tmp_path / "lock", ns=(0, next(times)))),
        pytest.raises(RunError, match=r"in use by process \d+ on \w+, which was seen alive; wait for it"),
    ):
        RunLock(tmp_path, BEAT_SECONDS).__enter__()
    assert record(tmp_path)["pid"] == change.get("pid", os.getpid())


@pytest.mark.parametrize("change", [ELSEWHERE, {"pid_namespace": "pid:[1]"}])
def test_an_owner_out_of_sight_that_is_silent_is_replaced(
    tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    leave_behind(tmp_path, **change)
    os.utime(tmp_path / "lock", (2e9, 2e9))  # a host whose clock is ahead
    began = time.monotonic()
    with RunLock(tmp_path, BEAT_SECONDS):
        assert time.monotonic() - began >= 3 * BEAT_SECONDS
        assert record(tmp_path)["boot"] != ELSEWHERE["boot"]
    looking, taken = [one.getMessage() for one in caplog.records]
    assert "was not released by process" in looking
    assert taken.endswith("/lock; taken over")


def test_an_owner_on_another_host_that_just_takes_it_is_respected(tmp_path: Path) -> None:
    """Two find a stale lock; one is first. Its record has the old one's time, as where times are coarse."""
    leave_behind(tmp_path, **ELSEWHERE)
    times = os.stat(tmp_path / "lock").st_mtime_ns

    def take() -> None:
        edit(tmp_path, host="node8")
        os.utime(tmp_path / "lock", ns=(times, times))

    with beating(take), pytest.raises(RunError, match="which was seen alive"):
        RunLock(tmp_path, BEAT_SECONDS).__enter__()


@pytest.mark.parametrize("content", [b'{"host": "node7", "pi', b"[1]", b'"text"'])
def test_a_record_that_cannot_be_read_is_watched(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    began = time.monotonic()
    with RunLock(tmp_path, BEAT_SECONDS):
        assert time.monotonic() - began >= 3 * BEAT_SECONDS


def test_it_is_touched_while_it_is_held(tmp_path: Path) -> None:
    with RunLock(tmp_path, BEAT_SECONDS) as lock:
        os.utime(tmp_path / "lock", (1, 1))
        time.sleep(3 * BEAT_SECONDS)
        assert (tmp_path / "lock").stat().st_mtime > 1e9
        assert not lock.lost


def test_an_owner_is_told_when_it_lost_the_lock(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    """Suspended for too long, it finds another one's record when it goes on, and leaves that alone."""
    os.kill(holder.pid, signal.SIGSTOP)
    edit(tmp_path, **ELSEWHERE)
    taken = (tmp_path / "lock").read_bytes()
    os.kill(holder.pid, signal.SIGCONT)
    output, error = holder.communicate(timeout=10)
    assert (holder.returncode, output) == (0, "lost\n")
    assert f"the lock of folder {tmp_path} was taken over by process 4711 on node7; this job must end" in error
    assert (tmp_path / "lock").read_bytes() == taken


def test_a_record_taken_over_unnoticed_stays_at_release(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        edit(tmp_path, **ELSEWHERE)
    assert record(tmp_path)["host"] == "node7"


def test_a_deleted_file_is_no_loss(tmp_path: Path) -> None:
    with RunLock(tmp_path, BEAT_SECONDS) as lock:
        lock.path.unlink()
        time.sleep(2 * BEAT_SECONDS)
        assert not lock.lost
    assert not lock.path.exists()
