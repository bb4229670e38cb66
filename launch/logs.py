"""`tarmac logs`: what the ranks of a job said, in one stream in the order of time, over all its starts."""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from launch.record import kept_logs
from pipeline.errors import RunError

_BLOCK_BYTES = 1 << 14
_STAMP = re.compile(r"(?:^\[?|\*\*\* .* AT )(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)")
"""Of a rank, of DeepSpeed, and in SLURM's own lines."""


@dataclass(frozen=True, order=True)
class Entry:
    """A line with a time stamp, and those below it that have none, such as a traceback's."""

    time: str
    rank: int
    """-1: the job's own script."""
    text: str

    def lines(self) -> Iterator[str]:
        """Its lines, each with the rank before it."""
        label = "job" if self.rank < 0 else str(self.rank)
        return (f"{label}: {line}" for line in self.text.splitlines())


def merged(place: str) -> Iterator[str]:
    """The lines of all logs of a run folder, or of one job.

    Args:
        place: A run folder, or what its job's logs have in common: `runs/slurm/NAME-JOB`.

    Raises:
        RunError: There is no log.
    """
    stems = kept_logs(place) if Path(place).is_dir() else [Path(place)]
    found = {path: rank for stem in stems for path, rank in _files(stem)}
    if not found:
        raise RunError(f"{place} has no logs of a SLURM job; give a run that SLURM ran, or DIR/NAME-JOB")
    entries = heapq.merge(*(_entries(path, rank) for path, rank in found.items()))
    return chain.from_iterable(entry.lines() for entry in entries)


def _files(stem: Path) -> Iterator[tuple[Path, int]]:
    """The files of one job, and whose they are."""
    own = stem.with_name(f"{stem.name}.log")
    if own.is_file():
        yield own, -1
    for path in sorted(stem.parent.glob(f"{stem.name}-*.log")):
        rank = path.stem.removeprefix(f"{stem.name}-")
        if rank.isdigit():
            yield path, int(rank)


def _entries(path: Path, rank: int) -> Iterator[Entry]:
    """The entries of a file, which is in the order of time; what comes before the first stamp has that one's."""
    time, lines = "", []
    for line in _lines(path):
        stamp = _STAMP.search(line)
        if stamp and time:
            yield Entry(time, rank, "".join(lines))
            lines = []
        if stamp:
            time = max(time, stamp[1].replace("T", " "))
        lines.append(line)
    if lines:
        yield Entry(time, rank, "".join(lines))


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file that is open only while some are read: a job has more files than a process may open."""
    offset = 0
    while True:
        with open(path, "rb") as file:
            file.seek(offset)
            block = b"".join(file.readlines(_BLOCK_BYTES))
        if not block:
            return
        offset += len(block)
        yield from block.decode(errors="replace").splitlines(keepends=True)
