"""What deduplication knows of each document: rows of fixed size, in sorted runs that a range of keys picks out."""

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.documents.runs import lost_if_broken, write_array

HASHES = "hashes"
NODES = "nodes"
BANDS = "bands"
GONE = "gone"
HASH_ROW = np.dtype([("upper", "<u8"), ("lower", "<u8"), ("node", "<u8"), ("bytes", "<u4"), ("split", "<u4")])
"""Of a document: the halves of its text's hash, the upper half of its id, UTF-8 bytes of its text, number of its
split. Sorted by all in this order."""
NODE_ROW = np.dtype([("node", "<u8"), ("upper", "<u8")])
"""Of a document: the upper half of its id, the upper half of its text's hash. Sorted so."""
BAND_ROW = np.dtype([("hash", "<u8"), ("node", "<u8")])
"""Of a document and band: hash of the band, upper half of the document's id. Sorted so."""
GONE_ROW = np.dtype([("upper", "<u8"), ("node", "<u8")])
"""Of a document that goes: the upper half of its text's hash, the upper half of its id. Sorted so."""
_DTYPES = {HASHES: HASH_ROW, NODES: NODE_ROW, BANDS: BAND_ROW, GONE: GONE_ROW}
COUNTS_NAME = "rows.json"
"""How many runs there are of each kind. Nobody takes what files lie there for all that were written."""
_RUN_ROWS = 1 << 18
_RUN_BAND_ROWS = 1 << 22
"""Band hashes held at a time: what 2^18 documents have in 16 bands."""


class RowWriter:
    """Collects documents' rows and writes a sorted run whenever they are many; a context manager."""

    def __init__(self, folder: Path) -> None:
        """Write into `folder`."""
        self._folder, self._runs = folder, Counter[str]()
        self._hashes: list[tuple[int, int, int, int, int]] = []
        self._bands: list[NDArray[Any]] = []
        self._num_bands = 0

    def add(self, upper: int, lower: int, node: int, text_bytes: int, split: int) -> None:
        """Add a document."""
        self._hashes.append((upper, lower, node, text_bytes, split))
        if len(self._hashes) >= _RUN_ROWS:
            self._write_run()

    def add_bands(self, nodes: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> None:
        """Add band hashes, shape (documents, bands), of some nodes, shape (documents,)."""
        rows = np.empty(hashes.shape, dtype=BAND_ROW)
        rows["hash"], rows["node"] = hashes, nodes[:, None]
        self._bands.append(rows.reshape(-1))
        self._num_bands += rows.size
        if self._num_bands >= _RUN_BAND_ROWS:
            self._write_bands()

    def _write_run(self) -> None:
        hashes = np.array(self._hashes, dtype=HASH_ROW)
        nodes = np.empty(len(hashes), dtype=NODE_ROW)
        nodes["node"], nodes["upper"] = hashes["node"], hashes["upper"]
        self._write(HASHES, hashes)
        self._write(NODES, nodes)
        self._hashes.clear()
        if self._bands:
            self._write_bands()

    def _write_bands(self) -> None:
        self._write(BANDS, np.concatenate(self._bands))
        self._bands.clear()
        self._num_bands = 0

    def _write(self, name: str, rows: NDArray[Any]) -> None:
        write_array(_path(self._folder, name, self._runs[name]), sorted_rows(rows))
        self._runs[name] += 1

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            if self._hashes or self._bands:
                self._write_run()
            (self._folder / COUNTS_NAME).write_text(json.dumps(self._runs, sort_keys=True), "utf-8")


def sorted_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows in the order of their first field, then of the second, and so on."""
    return rows[np.lexsort([rows[field] for field in reversed(rows.dtype.names or ())])]


def read_rows(folders: Iterable[Path], name: str, first: int, last: int) -> NDArray[Any]:
    """Rows of some tasks whose first field is in [first, last], in no order.

    Raises CorpusError if a file that was written is missing or cut.
    """
    paths = (path for folder in folders for path in row_files(folder, name))
    return np.concatenate([np.empty(0, dtype=_DTYPES[name]), *(_slice(path, first, last) for path in paths)])


def row_files(folder: Path, name: str) -> list[Path]:
    """The files with a task's rows of one kind. Raises CorpusError if the record of them is missing or damaged."""
    if name == GONE:  # of these there is always one
        return [folder / f"{GONE}-0.npy"]
    with lost_if_broken(folder / COUNTS_NAME) as path:
        counts = json.loads(path.read_bytes())
    return [_path(folder, name, number) for number in range(counts.get(name, 0))]


def _path(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}-{number:06d}.npy"


def _slice(path: Path, first: int, last: int) -> NDArray[Any]:
    with lost_if_broken(path):
        rows = np.load(path, mmap_mode="r")
    key = itemgetter(rows.dtype.names[0])  # by hand: numpy's search would copy the whole column
    return np.array(rows[bisect_left(rows, first, key=key) : bisect_right(rows, last, key=key)])
