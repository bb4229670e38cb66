"""Which rows of `metrics.jsonl` Weights & Biases has not got yet, in a run that is killed, resumed and cut off."""

import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.runtime.files import write_json
from pipeline.runtime.journal import Journal
from pipeline.train.tracking.tracker import metrics_path

Row = dict[str, Any]

FLUSH_SECONDS = 30.0
"""After so long W&B has tried to write what it got into its own file, which it does every 15 s."""


class Following:
    """Goes through the rows of a run, those of earlier sessions that were never handed over first.

    What was handed over is the beginning of `metrics.jsonl`, up to a mark. A resumed run does steps again and gets the
    same rows: these are passed over. After a rollback, which the journal tells, steps of the same numbers are others.
    Of rows that W&B took just before it was killed some may be handed over twice.
    """

    def __init__(self, run: Path, size: Callable[[], int]) -> None:
        """Go on where the run folder's mark says; nothing was handed over if there is none.

        Args:
            run: The run folder.
            size: Bytes that W&B has in its own file by now.
        """
        self._metrics, self._mark, self._size = metrics_path(run), mark_path(run), size
        self._branches = _Branches(run)
        self._seen: defaultdict[tuple[int, tuple[str, ...]], set[int]] = defaultdict(set)
        self._bytes = self._marked = 0
        self._grown_size, self._grown_at = size(), 0.0
        self._unsure: deque[_Unsure] = deque()
        self._branches.look()
        for line in _lines(self._metrics, 0, read_mark(self._mark)):
            self._due(line)
            self._bytes += len(line)

    def new(self) -> Iterator[Row]:
        """Whole rows that came since it was called last; one counts as handed over when the next is asked for."""
        lines, size = _lines(self._metrics, self._bytes), self._size()
        self._branches.look()  # afterwards: what is in these lines came later than the rollbacks before it
        for line in lines:
            row = self._due(line)
            if row is not None:
                yield row
            self._bytes += len(line)
        if lines:
            self._unsure.append(_Unsure(time.monotonic() + FLUSH_SECONDS, self._bytes, size))

    def _due(self, line: bytes) -> Row | None:
        """The row in a line; None if a kill left a part of one, or it is of a step done again."""
        row = _row(line)
        if row is None:
            return None
        steps = self._seen[self._branches.at(row["time"]), tuple(row)]
        is_again = row["step"] in steps
        steps.add(row["step"])
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


def mark_path(run: Path) -> Path:
    """Where a run notes up to which row W&B has them."""
    return run / "wandb" / "handed_over.json"


def read_mark(path: Path) -> int:
    """Bytes of rows that were handed over; 0 if nobody noted any, or the note is damaged."""
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
    return row if isinstance(row, dict) and {"step", "time"} <= row.keys() else None
