"""What a cache holds, the least recently used first."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from pipeline.corpus.manifest import SPLIT_FOLDERS

_PARTIAL = ".partial"


class HeldFile(NamedTuple):
    """A shard in a cache, or one that is on its way."""

    used: int
    """When, in nanoseconds."""
    path: Path
    bytes: int
    """It has or will have."""


def partial_path(path: Path, num_bytes: int) -> Path:
    """Where a shard is written to before it is whole; the name tells how much it will take."""
    return path.with_name(f"{path.name}.{num_bytes}{_PARTIAL}")


def mark_used(path: Path) -> None:
    """Let a shard be the last to go. Raises FileNotFoundError if it has gone."""
    os.utime(path, ns=(time.time_ns(),) * 2)  # the kernel's own clock ticks too coarsely to tell an order


def held_files(folder: Path) -> list[HeldFile]:
    """All shards of a cache."""
    paths = (path for split in SPLIT_FOLDERS.values() for path in folder.glob(f"{split}/*/*.tar*"))
    return sorted(file for path in paths if (file := _held(path)))


def _held(path: Path) -> HeldFile | None:
    try:
        status = path.stat()
    except FileNotFoundError:  # became whole, or was given up, while we looked
        return None
    is_partial = path.suffix == _PARTIAL
    return HeldFile(status.st_mtime_ns, path, int(path.name.split(".")[-2]) if is_partial else status.st_size)
