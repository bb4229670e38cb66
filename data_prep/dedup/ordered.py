"""Rows of many sorted runs in one order, as many at a time as memory holds.

Ranges of hashes hold about equally many rows, but for those where one hash has millions: a page that comes over and
over. What is too much at a time is divided at a value that is in its midst, as quicksort does; rows that agree in one
field are told apart by the next.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.documents.rows import row_files
from data_prep.documents.runs import lost_if_broken

Rows = NDArray[Any]

MAX_BYTES = 96 * 2**20
"""Rows that are held at a time; sorting them takes about four times as much."""
_SOURCE = ("source", "<u2")


@dataclass(frozen=True)
class Stretch:
    """Rows of one run that lie side by side."""

    path: Path
    """The run: an npy file, sorted."""
    source: int
    """Number of the source that they are of."""
    start: int
    """The first of them."""
    stop: int
    """The one behind the last."""

    def __len__(self) -> int:
        return self.stop - self.start

    def rows(self) -> Rows:
        """The rows; little of the file is read before they are looked at."""
        with lost_if_broken(self.path):
            rows: Rows = np.load(self.path, mmap_mode="r")
        return rows[self.start : self.stop]

    def value(self, field: str) -> int:
        """A field of the row in the middle, or the source."""
        return self.source if field == "source" else int(self.rows()[len(self) // 2][field])

    def within(self, field: str, first: int, last: int) -> "Stretch":
        """The rows with a field in [first, last], where the rows agree in all fields before it; or all or none."""
        if field == "source":
            return self if first <= self.source <= last else replace(self, stop=self.start)
        start, stop = _bounds(self.rows(), field, first, last)
        return replace(self, start=self.start + start, stop=self.start + stop)


def stretches(folders: Iterable[Path], name: str, source: int, first: int, last: int) -> list[Stretch]:
    """The rows of a source's tasks whose first field is in [first, last].

    Raises CorpusError if a file that was written is missing or cut.
    """
    found = []
    for path in (path for folder in folders for path in row_files(folder, name)):
        with lost_if_broken(path):
            rows = np.load(path, mmap_mode="r")
        start, stop = _bounds(rows, rows.dtype.names[0], first, last)
        if start < stop:
            found.append(Stretch(path, source, start, stop))
    return found


def _bounds(rows: Rows, field: str, first: int, last: int) -> tuple[int, int]:
    key = itemgetter(field)  # by hand: numpy's search would copy the whole column
    return bisect_left(rows, first, key=key), bisect_right(rows, last, key=key)


def within(found: Iterable[Stretch], field: str, first: int, last: int) -> list[Stretch]:
    """Of some rows that agree in all fields before it those with a field in [first, last]."""
    narrowed = (stretch.within(field, first, last) for stretch in found)
    return [stretch for stretch in narrowed if len(stretch)]


def in_order(found: Sequence[Stretch], fields: Sequence[str]) -> Iterator[Rows]:
    """All rows, with their `source`, in the order of some fields: those that each run is sorted by, and `source`.

    Each piece is sorted, and all of it comes before all of the next one; how they are cut is nobody's business. Only
    rows that agree in all the fields may be more at a time than memory holds.
    """
    if not found:
        return
    num_rows = sum(map(len, found))
    if num_rows * found[0].rows().itemsize <= MAX_BYTES or not fields:
        yield _sorted(found, num_rows, fields)
        return
    field, *others = fields
    middle = max(found, key=len).value(field)
    yield from in_order(within(found, field, 0, middle - 1), fields)
    yield from in_order(within(found, field, middle, middle), others)
    yield from in_order(within(found, field, middle + 1, (1 << 64) - 1), fields)


def _sorted(found: Sequence[Stretch], num_rows: int, fields: Sequence[str]) -> Rows:
    rows = np.empty(num_rows, [*found[0].rows().dtype.descr, _SOURCE])
    start = 0
    for stretch in found:
        part, read = rows[start : start + len(stretch)], stretch.rows()
        part[list(read.dtype.names or ())] = read
        part["source"] = stretch.source
        start += len(stretch)
    return rows[np.lexsort([rows[name] for name in reversed(fields)])] if fields else rows


def with_firsts(pieces: Iterable[Rows], fields: Sequence[str]) -> Iterator[tuple[Rows, NDArray[np.bool_]]]:
    """Each piece of what `in_order` yields, and which of its rows differ in some fields from the row before."""
    last: Rows | None = None
    for rows in pieces:
        is_first = np.ones(len(rows), bool)
        is_first[1:] = _differ(rows[1:], rows[:-1], fields)
        if last is not None:
            is_first[:1] = _differ(rows[:1], last, fields)
        last = rows[-1:].copy()
        yield rows, is_first


def _differ(rows: Rows, others: Rows, fields: Sequence[str]) -> NDArray[np.bool_]:
    return np.asarray(np.any([rows[name] != others[name] for name in fields], axis=0), dtype=np.bool_)
