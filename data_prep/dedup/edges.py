"""Edges on disk: pairs of nodes in sorted files, out of which a range of nodes is read without reading the rest."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.documents.runs import lost_if_broken, write_array

Edges = NDArray[np.uint64]
"""(edges, 2). Sorted means: by the first node, then by the second."""

_COUNT_NAME = "edges.count"
"""How many files there are."""
_PAIR = np.dtype("V16")


def sorted_edges(edges: Edges) -> Edges:
    """Edges sorted, each once."""
    # 16 bytes in big-endian order compare as the pair does, and are sorted in place: half the time of lexsort
    pairs = np.ascontiguousarray(edges, ">u8").view(_PAIR).reshape(-1)
    pairs.sort()
    edges = pairs.view(">u8").reshape(-1, 2).astype(np.uint64)
    is_new = np.ones(len(edges), bool)
    is_new[1:] = (edges[1:] != edges[:-1]).any(axis=1)
    return edges[is_new]


def first_of_equals(numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each run of equal numbers begins."""
    return np.flatnonzero(np.diff(numbers, prepend=~numbers[:1]))


def both_ways(edges: Edges) -> Edges:
    """Edges and their reverses, in no order."""
    return np.concatenate([edges, edges[:, ::-1]])


class EdgeWriter:
    """Collects edges and writes a sorted file whenever they are many; a context manager."""

    def __init__(self, folder: Path, max_edges: int) -> None:
        """Write into `folder`, which is made if missing, `edges-<number>.npy`; hold about `max_edges` edges."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._max_edges = folder, max_edges
        self.num_edges = 0
        """Edges written; one that is in several files counts in each."""
        self._edges: list[Edges] = []
        self._held = self._files = 0

    def add(self, edges: Edges) -> None:
        """Add edges, in any order."""
        self._edges.append(edges)
        self._held += len(edges)
        if self._held >= self._max_edges:
            self._write()

    def _write(self) -> None:
        held = sorted_edges(np.concatenate(self._edges))
        self._edges.clear()
        write_array(_path(self._folder, self._files), held)
        self.num_edges += len(held)
        self._held, self._files = 0, self._files + 1

    def __enter__(self) -> "EdgeWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            if self._held:
                self._write()
            (self._folder / _COUNT_NAME).write_text(str(self._files), "utf-8")


def read_edges(folders: Sequence[Path], first: int, last: int, max_edges: int) -> Iterator[Edges]:
    """The edges whose first node is in [first, last], out of all files, at most so many at a time, each time sorted.

    An edge that is in several files comes several times. Raises CorpusError if a file that was written is missing or
    cut.
    """
    for path in (path for folder in folders for path in _files(folder)):
        with lost_if_broken(path):
            edges = np.load(path, mmap_mode="r")
        # not numpy's search, which would copy the whole column
        start, end = bisect_left(edges[:, 0], first, key=int), bisect_right(edges[:, 0], last, key=int)
        for place in range(start, end, max_edges):
            yield np.array(edges[place : min(place + max_edges, end)])


def _files(folder: Path) -> list[Path]:
    """The files that were written; what lies there now may be less."""
    with lost_if_broken(folder / _COUNT_NAME) as path:
        return [_path(folder, number) for number in range(int(path.read_bytes()))]


def _path(folder: Path, number: int) -> Path:
    return folder / f"edges-{number:06d}.npy"
