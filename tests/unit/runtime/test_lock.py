import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import RunError
from pipeline.runtime.lock import RunLock

HOLDER = """
import sys, time
from pipeline.runtime.lock import RunLock
with RunLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(RunError, match=r"is in use by .*; wait for it to end or choose another output") as error:
        RunLock(tmp_path).__enter__()
    assert f"folder {tmp_path} is in use by process {holder.pid} on {socket.gethostname()};" in str(error.value)
    assert "\n" not in str(error.value)


def test_it_is_free_once_its_holder_is_killed(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with RunLock(tmp_path) as lock:
        assert f'"pid": {os.getpid()}' in lock.path.read_text()


def test_it_is_free_after_the_block(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(RunError):
        RunLock(tmp_path).__enter__()
    with RunLock(tmp_path):
        pass
