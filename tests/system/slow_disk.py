"""A file system under FUSE whose disk is as slow, and whose quota is as small, as a test says while it is in use.

`python -m tests.system.slow_disk SOURCE FOLDER SETTINGS` shows what lies in SOURCE at FOLDER until that is unmounted.
No file of SOURCE stays open between two operations, so SOURCE can be remounted read-only whoever writes in FOLDER.
"""

import errno
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mfusepy import FUSE, Operations


class SlowFileSystem(Operations):
    """Hands each operation on; reads its settings, JSON, before each write."""

    use_ns = True

    def __init__(self, source: Path, settings: Path) -> None:
        self._source, self._settings = source, settings

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        settings = json.loads(self._settings.read_text())
        time.sleep(settings["seconds_per_megabyte"] * len(data) / 1e6)
        quota, disk = settings["quota_bytes"], os.statvfs(self._source)
        if quota is not None and (disk.f_blocks - disk.f_bfree) * disk.f_frsize + len(data) > quota:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        with self._opened(path, os.O_WRONLY) as descriptor:
            return os.pwrite(descriptor, data, offset)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self._opened(path, os.O_RDONLY) as descriptor:
            return os.pread(descriptor, size, offset)

    def create(self, path: str, mode: int) -> int:
        with self._opened(path, os.O_WRONLY | os.O_CREAT, mode):
            return 0

    def open(self, path: str, flags: int) -> int:
        with self._opened(path, flags):
            return 0

    def truncate(self, path: str, length: int) -> int:
        os.truncate(self._place(path), length)
        return 0

    def getattr(self, path: str, fh: int | None = None) -> Mapping[str, Any]:
        found = os.lstat(self._place(path))
        names = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")
        times = {f"st_{name}time": getattr(found, f"st_{name}time_ns") for name in "amc"}
        return {name: getattr(found, name) for name in names} | times

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self._place(path), ns=times or (time.time_ns(), time.time_ns()))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        self._place(path).chmod(mode)
        return 0

    def statfs(self, path: str) -> Mapping[str, int]:
        disk = os.statvfs(self._source)
        names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_namemax")
        return {name: getattr(disk, name) for name in names}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._place(path))]

    def mkdir(self, path: str, mode: int) -> int:
        self._place(path).mkdir(mode)
        return 0

    def rmdir(self, path: str) -> int:
        self._place(path).rmdir()
        return 0

    def unlink(self, path: str) -> int:
        self._place(path).unlink()
        return 0

    def rename(self, old: str, new: str) -> int:
        self._place(old).rename(self._place(new))
        return 0

    def _place(self, path: str) -> Path:
        return self._source / path.lstrip("/")

    @contextmanager
    def _opened(self, path: str, flags: int, mode: int = 0) -> Iterator[int]:
        descriptor = os.open(self._place(path), flags, mode)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    # hard_remove: FUSE hears of a close a moment late, and would keep a file, and so its folder, from removal till then
    FUSE(SlowFileSystem(Path(sys.argv[1]), Path(sys.argv[3])), sys.argv[2], foreground=True, hard_remove=True)
