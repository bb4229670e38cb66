"""Object stores for tests: real servers on this machine's own address."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

S3_SERVER = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
import sys
sys.stdin.read()
server.stop()
"""


@contextmanager
def serving(program: str) -> Iterator[str]:
    """The address of a server, run by a Python program that prints its port and ends when its input does."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Talk to the server itself, whatever the environment says."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
