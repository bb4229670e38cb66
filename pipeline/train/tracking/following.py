"""Which lines of a run's files Weights & Biases has not got yet, in a run that is killed, resumed and cut off."""

import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.runtime.files import write_json
from pipeline.runtime.journal import Journal

Row = dict[str, Any]

FLUSH_SECONDS = 30.0
"""After so long W&B has tried to write what it got into its own file, which it does every 15 s."""


class Stream(NamedTuple):
    """A file of a run's lines that W&B gets."""

    name: str
    """The file's."""
    mark: str
    """Name of the file that says how much of it was handed over."""
    key: Callable[[Row], tuple[Hashable, float] | None]
    """What a line is of, and a number; once each, where no rollback came between. None: W&B gets no such line."""


ROWS = Stream("metrics.jsonl", "handed_over.json", lambda row: (tuple(row), row["step"]))


class Following:
    """Goes through the lines of a run, those of earlier sessions that were never handed over first.

    What was handed over is the beginning of the file, up to a mark. A resumed run does steps again and gets the
    same rows: these are passed over. After a rollback, which the journal tells, steps of the same numbers are others.
    Of rows that W&B took just before it was killed some may be handed over twice.
    """

    def __init__(self, run: Path, size: Callable[[], int], stream: Stream = ROWS) -> None:
        """Go on where the run folder's mark says; nothing was handed over if there is none.

        Args:
            run: The run folder.
            size: Bytes that W&B has in its own file by now.
            stream: Which lines.
        """
        self._path, self._mark, self._size = run / stream.name, mark_path(run, stream), size
        self._key = stream.key
        self._branches = _Branches(run)
        self._seen: defaultdict[tuple[int, Hashable], set[float]] = defaultdict(set)
        self._bytes = self._marked = 0
        self._grown_size, self._grown_at = size(), 0.0
        self._unsure: deque[_Unsure] = deque()
        self.handed_over = 0
        """Lines that were, in all sessions."""
        self._branches.look()
        for line in _lines(self._path, 0, read_mark(self._mark)):
            self.handed_over += self._due(line) is not None
            self._bytes += len(line)

    def new(self) -> Iterator[Row]:
        """Whole lines that came since it was called last; one counts as handed over when the next is asked for."""
        lines, size, before = _lines(self._path, self._bytes), self._size(), self.handed_over
        self._branches.look()  # afterwards: what is in these lines came later than the rollbacks before it
        for line in lines:
            row = self._due(line)
            if row is not None:
                yield row
                self.handed_over += 1
            self._bytes += len(line)
        if self.handed_over > before:
            self._unsure.append(_Unsure(time.monotonic() + FLUSH_SECONDS, self._bytes, size))

    def _due(self, line: bytes) -> Row | None:
        """The row in a line; None if a kill left a part of one, it is of a step done again, or not for W&B."""
        row = _row(line)
        key = None if row is None else self._key(row)
        if row is None or key is None:
            return None
        kind, number = key
        numbers = self._seen[self._branches.at(row["time"]), kind]
        is_again = number in numbers
        numbers.add(number)
        return None if is_again else row

    def remember(self) -> None:
        """Write the mark of what W&B surely has in its own file; no kill takes that any more.

        A write of W&B's that fails may leave a part of the rows, and is its last one. So rows are surely there when
        the file grew once more after they were due.

        Raises:
            NotWrittenError: W&B took rows and does not write them.
            OSError: The mark could not be written.
        """
        now, size = time.monotonic(), self._size()
        if size > self._grown_size:
            self._grown_size, self._grown_at = size, now
        if any(size <= one.size for one in self._unsure if one.due <= now):
            raise NotWrittenError("W&B does not write its own file any more; is the disk full?")
        while self._unsure and self._unsure[0].due <= self._grown_at:
            self._write(self._unsure.popleft().bytes)

    def close(self) -> None:
        """Write the mark of all that was handed over, once W&B has closed its file. Raises as `remember` does."""
        if self._unsure and self._size() <= self._grown_size:
            raise NotWrittenError("W&B did not write its own file to its end; is the disk full?")
        self._write(self._bytes)

    def _write(self, sure: int) -> None:
        if sure > self._marked:
            write_json(self._mark, {"bytes": sure})
            self._marked = sure


class NotWrittenError(Exception):
    """W&B took rows and lost them: after a write that failed it says nothing, and writes nothing more."""


class _Unsure(NamedTuple):
    """Rows that W&B has, but perhaps only in memory."""

    due: float
    """When it has tried to write them, at the latest."""
    bytes: int
    """Up to where they go in our file."""
    size: int
    """Of W&B's file before it got them."""


class _Branches:
    """When a run went back to a checkpoint and took other data."""

    def __init__(self, run: Path) -> None:
        self._journal = Journal(run)
        self._size = 0
        self._begun: list[float] = []

    def look(self) -> None:
        """Read the journal if it grew."""
        size = self._journal.path.stat().st_size if self._journal.path.exists() else 0
        if size != self._size:
            self._begun = [event["time"] for event in self._journal.read() if event["event"] == "rollback"]
            self._size = size

    def at(self, when: float) -> int:
        """Number of the branch at a time, from 0."""
        return sum(begun <= when for begun in self._begun)


def mark_path(run: Path, stream: Stream = ROWS) -> Path:
    """Where a run notes up to which line W&B has them."""
    return run / "wandb" / stream.mark


def read_mark(path: Path) -> int:
    """Bytes of lines that were handed over; 0 if nobody noted any, or the note is damaged."""
    try:
        return int(json.loads(path.read_bytes())["bytes"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return 0


def _lines(path: Path, begin: int, end: int | None = None) -> list[bytes]:
    """The whole lines of a part of a file; none if there is no file yet."""
    try:
        with path.open("rb") as file:
            file.seek(begin)
            lines = file.read(-1 if end is None else end - begin).splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]


def _row(line: bytes) -> Row | None:
    """The row in a line; None if a kill left a part of one."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "time" in row and ("step" in row or "event" in row) else None
