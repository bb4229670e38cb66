"""A real sshd on the loopback interface, for tests that run as root: two hosts by name, which are this machine."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.distributed.jobs import free_port

PACKAGES = ("openssh-server", "openssh-client", "pdsh")
HOSTS = ("first", "second")
_SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
"""
_SSH = """
Host {hosts}
  HostName 127.0.0.1
  Port {port}
  User root
  IdentityFile {folder}/key
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  LogLevel ERROR
"""


@contextmanager
def ssh_hosts() -> Iterator[Mapping[str, str]]:
    """Variables with which ssh and pdsh reach the hosts; packages are installed if they are missing."""
    _install()
    folder = Path(tempfile.mkdtemp(prefix="sshd-", dir="/tmp"))
    try:
        for name in ("key", "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        places = {"folder": folder, "port": free_port(), "hosts": " ".join(HOSTS)}
        (folder / "sshd_config").write_text(_SSHD.format(**places))
        (folder / "ssh_config").write_text(_SSH.format(**places))
        yield from _served(folder)
    finally:
        shutil.rmtree(folder)


def _served(folder: Path) -> Iterator[Mapping[str, str]]:
    """`ssh` is a script that names the configuration, as no variable of ssh's does."""
    Path("/run/sshd").mkdir(exist_ok=True)
    real = shutil.which("ssh")
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {real} -F {folder}/ssh_config "$@"\n')
    (folder / "ssh").chmod(0o755)
    server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "log")])
    variables = {"PATH": f"{folder}:{os.environ['PATH']}", "PDSH_RCMD_TYPE": "ssh"}
    try:
        _wait(variables)
        yield variables
    finally:
        server.terminate()
        server.wait()


def _wait(variables: Mapping[str, str]) -> None:
    deadline = time.monotonic() + 30
    while subprocess.run(["ssh", HOSTS[0], "true"], env=os.environ | variables, capture_output=True).returncode:
        assert time.monotonic() < deadline, "sshd does not answer"
        time.sleep(0.2)


def _install() -> None:
    if all(map(shutil.which, ("sshd", "ssh", "pdsh"))):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", *words], env=environment, check=True)
