"""Small real file systems that a test can break while a run writes to them, and mend; they need root."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.zygote import ROOT

_ROOM_BYTES = 16 << 10
"""What a disk takes before it refuses: the fault is in the middle of a file."""


class Disk:
    """A tmpfs of 16 MiB, which fills up."""

    says = "No space left on device"
    takes_removals = True

    def __init__(self, folder: Path, source: Path) -> None:
        """Name what is mounted: `folder` is what a run sees, `source` the tmpfs."""
        self.folder, self._source = folder, source
        self.run = folder / "run"

    def fail(self) -> None:
        """Take what room there is, also from those who write just now, but for a little."""
        self.leave(_ROOM_BYTES)

    def leave(self, room_bytes: int) -> None:
        """Take all room but so much."""
        with open(self._source / "ballast", "wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        os.truncate(self._source / "ballast", (self._source / "ballast").stat().st_size - room_bytes)

    def mend(self) -> None:
        (self._source / "ballast").unlink()


class ReadOnlyDisk(Disk):
    """One that becomes read-only, which the kernel refuses as long as something writes: so behind `slow_disk`."""

    says = "Read-only file system"
    takes_removals = False

    def fail(self) -> None:
        deadline = time.monotonic() + 20
        while self._remount("ro").returncode:  # a write is just going on
            assert time.monotonic() < deadline

    def mend(self) -> None:
        self._remount("rw").check_returncode()

    def _remount(self, how: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["mount", "-o", f"remount,{how}", self._source], capture_output=True)


class QuotaDisk(Disk):
    """One on which the user's quota is used up while the disk has room.

    Quotas of a tmpfs or an ext4 need a kernel that was built for them; behind `slow_disk` any does.
    """

    says = "Disk quota exceeded"

    def fail(self) -> None:
        disk = os.statvfs(self._source)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        _set_slow_disk(self._source, quota_bytes=used + _ROOM_BYTES)

    def mend(self) -> None:
        _set_slow_disk(self._source)


class SlowDisk(Disk):
    """One whose writes take long."""

    seconds_per_megabyte = 1.2

    def fail(self) -> None:
        _set_slow_disk(self._source, seconds_per_megabyte=self.seconds_per_megabyte)


@contextmanager
def small_disk(folder: Path, kind: type[Disk] = Disk) -> Iterator[Disk]:
    """A disk mounted at a new folder."""
    source = folder if kind is Disk else folder.with_name(f"{folder.name}.source")
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", source], check=True)
    try:
        if kind is Disk:
            yield kind(folder, source)
        else:
            with _slow_disk(folder, source):
                yield kind(folder, source)
    finally:
        subprocess.run(["umount", "--lazy", source], check=True)


def _set_slow_disk(source: Path, quota_bytes: int | None = None, seconds_per_megabyte: float = 0.0) -> None:
    """Say how the disk of `source` behaves from now on."""
    settings = source.with_suffix(".json")
    new = settings.with_suffix(".new")
    new.write_text(json.dumps({"quota_bytes": quota_bytes, "seconds_per_megabyte": seconds_per_megabyte}))
    new.rename(settings)


@contextmanager
def _slow_disk(folder: Path, source: Path) -> Iterator[None]:
    """`slow_disk` between a folder and the disk under it, unmounted whatever happens."""
    install()
    folder.mkdir()
    _set_slow_disk(source)
    words = [sys.executable, "-m", "tests.system.slow_disk", source, folder, source.with_suffix(".json")]
    process = subprocess.Popen(words, cwd=ROOT)
    try:
        _wait_until(lambda: folder.is_mount() or process.poll() is not None)
        assert folder.is_mount(), "slow_disk did not start"
        yield
    finally:
        subprocess.run(["fusermount3", "-u", "-z", folder], check=False)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def install() -> None:
    """Install FUSE from the distribution if it is missing."""
    if shutil.which("fusermount3"):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "fuse3"]):
        subprocess.run(["apt-get", *words], env=environment, check=True)


def _wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
