"""Files that are whole or absent: written beside their place, synced to disk, then renamed into it."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` only when the block ends without an error."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


class Lines:
    """A file of lines that is open for appending; a last line that a kill left torn is closed first."""

    def __init__(self, path: str | Path) -> None:
        """Open the file, or make it. Raises OSError."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if self._is_torn():
                self._write(b"\n")
        except OSError:
            self.close()
            raise

    def append(self, values: Sequence[Any], synced: bool) -> None:
        """Append values as JSON, one a line: all of them or, where OSError is raised, none.

        Args:
            values: What to append.
            synced: Whether to wait until they are on the disk, where a power cut leaves them.
        """
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            self._write("".join(f"{json.dumps(value, ensure_ascii=False)}\n" for value in values).encode("utf-8"))
            if synced:
                os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):  # where this cannot be done either, the next opening closes what is torn
                os.ftruncate(self._descriptor, end)
            raise

    def close(self) -> None:
        """Close the file. Raises OSError."""
        os.close(self._descriptor)

    def _is_torn(self) -> bool:
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        return end > 0 and os.pread(self._descriptor, 1, end - 1) != b"\n"

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:  # a disk that fills up takes a part and refuses the rest the next time
            rest = rest[os.write(self._descriptor, rest) :]


def append_json_line(path: str | Path, value: Any) -> None:
    """Append one JSON line and sync it, whole or not at all; a line that a kill left torn is closed first.

    Raises:
        OSError: It could not be written.
    """
    with closing(Lines(path)) as lines:
        lines.append([value], synced=True)


def read_json_lines(path: str | Path) -> list[Any]:
    """The values of a JSON-lines file that `append_json_line` wrote; empty if absent. Torn lines are left out."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    values = []
    for line in lines:
        try:
            values.append(json.loads(line))
        except ValueError:
            continue  # a kill in the middle of the append: the event was never whole
    return values


def sync_file(path: str | Path) -> None:
    """Force a file's content to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: str | Path) -> None:
    """Force a folder's entries to disk, so that a rename in it outlives a power cut."""
    sync_file(path)


def available_bytes(folder: str | Path) -> int:
    """Room on a folder's file system for this user; quotas are not in it."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
