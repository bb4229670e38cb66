"""One source after reading, deduplication and the split: its documents in the order of their hashes."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from data_prep.documents.document import HALF_BITS, upper_half
from data_prep.documents.frames import StoredDocument
from data_prep.documents.rows import GONE, read_rows
from data_prep.documents.runs import DocumentRuns, DocumentWriter
from data_prep.documents.split import SPLITS
from data_prep.tasks.partial import own_suffix
from pipeline.corpus.manifest import Split

HASHES_END = 1 << HALF_BITS
"""Upper halves of hashes are below this."""
_STEP_BYTES = 32 * 2**20


def hash_ranges(number: int, first: int = 0, last: int = HASHES_END - 1) -> list[tuple[int, int]]:
    """A range of hashes' upper halves in so many equal parts, each with its first and last."""
    size = last - first + 1
    bounds = [first + part * size // number for part in range(number + 1)]
    return [(start, end - 1) for start, end in pairwise(bounds)]


class GoneFolder(NamedTuple):
    """Documents of a source that go, in one range of hashes."""

    first: int
    """First of the range of hashes' upper halves."""
    last: int
    """Last of it."""
    folder: str
    """Relative to the work folder."""


@dataclass(frozen=True)
class SourceDocuments:
    """The documents that stay of one source. Sorted by the hash of their text: a shuffle no input order shows in."""

    name: str
    """The source."""
    reads_digest: str
    """Checksum over what reading left."""
    gone_digest: str
    """Checksum over the documents that go."""
    moved: tuple[tuple[int, int], ...]
    """(hash, number of the split) of documents that are in another split than their hash says."""
    text_bytes: int = field(compare=False)
    """Bytes of text, all splits together."""
    reads: tuple[str, ...] = field(compare=False)
    """Folders of the reading tasks, relative to the work folder."""
    gone: tuple[GoneFolder, ...] = field(compare=False)
    """Where the documents are that go."""

    def documents(
        self, work: Path, split: Split, first: int = 0, last: int = HASHES_END - 1
    ) -> Iterator[StoredDocument]:
        """Documents of a split, by hash; the upper halves are in [first, last].

        About 32 MiB of text are held at a time. Where so many runs are there that a step would open more frames than
        it holds text, all documents are first brought together in runs of their own.

        Raises:
            CorpusError: A file of a reading task is damaged.
        """
        steps = max(1, self.text_bytes * (last - first + 1) // HASHES_END // _STEP_BYTES)
        runs = [DocumentRuns(work / folder) for folder in self.reads]
        taken = partial(self._taken, work, runs, SPLITS.index(split))
        if steps == 1 or not self._is_scattered(runs, SPLITS.index(split), first, last, steps):
            yield from self._in_steps(taken, hash_ranges(steps, first, last))
            return
        with TemporaryDirectory(prefix="merge-", suffix=own_suffix(), dir=self._scratch(work)) as folder:
            with DocumentWriter(Path(folder)) as merged:
                for document in taken(first, last):
                    merged.add(0, *document)
            yield from self._in_steps(partial(DocumentRuns(Path(folder)).documents, 0), hash_ranges(steps, first, last))

    def _is_scattered(self, runs: list[DocumentRuns], split: int, first: int, last: int, steps: int) -> bool:
        """Whether steps would open more than twice the frames that there are: those at their borders come twice."""
        frames = sum(len(run.frames(split, first, last)) for run in runs)
        middle = (first + last) // 2
        return steps * sum(len(run.frames(split, middle, middle)) for run in runs) > frames

    def _in_steps(
        self, taken: Callable[[int, int], Iterable[StoredDocument]], ranges: Iterable[tuple[int, int]]
    ) -> Iterator[StoredDocument]:
        for first, last in ranges:
            yield from sorted(taken(first, last), key=self._order)

    def _scratch(self, work: Path) -> Path:
        folder = work / "merge"
        folder.mkdir(exist_ok=True)
        return folder

    def _order(self, document: StoredDocument) -> tuple[int, int]:
        return document.hash, document.id(self.name)

    def _taken(
        self, work: Path, runs: list[DocumentRuns], split: int, first: int, last: int
    ) -> Iterator[StoredDocument]:
        overlapping = (work / one.folder for one in self.gone if one.first <= last and first <= one.last)
        gone = np.sort(read_rows(overlapping, GONE, first, last)["node"]).data
        for run in runs:
            for document in self._in_split(run, split, first, last):
                if not gone or not _is_among(gone, upper_half(document.id(self.name))):
                    yield document

    def _in_split(self, run: DocumentRuns, split: int, first: int, last: int) -> Iterator[StoredDocument]:
        for document in run.documents(split, first, last):
            if document.hash not in self._moved:
                yield document
        for hash_, target in self.moved:
            upper = upper_half(hash_)
            if target == split and first <= upper <= last:
                for other in set(range(len(SPLITS))) - {split}:
                    yield from (found for found in run.documents(other, upper, upper) if found.hash == hash_)

    @cached_property
    def _moved(self) -> frozenset[int]:
        return frozenset(hash_ for hash_, _ in self.moved)


def _is_among(numbers: "memoryview[int]", number: int) -> bool:
    """Whether a number is in a sorted array. A set would take ten times the memory: there may be millions of copies."""
    place = bisect_left(numbers, number)
    return place < len(numbers) and numbers[place] == number
