"""What deduplication knows of each document: rows of fixed size, in sorted runs that a range of keys picks out."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.documents.runs import write_array

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
_RUN_ROWS = 1 << 18


class RowWriter:
    """Collects documents' rows and writes a sorted run whenever they are many; a context manager."""

    def __init__(self, folder: Path) -> None:
        """Write into `folder`."""
        self._folder, self._runs = folder, 0
        self._hashes: list[tuple[int, int, int, int, int]] = []
        self._bands: list[NDArray[Any]] = []

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

    def _write_run(self) -> None:
        hashes = np.array(self._hashes, dtype=HASH_ROW)
        nodes = np.empty(len(hashes), dtype=NODE_ROW)
        nodes["node"], nodes["upper"] = hashes["node"], hashes["upper"]
        self._write(HASHES, hashes)
        self._write(NODES, nodes)
        if self._bands:
            self._write(BANDS, np.concatenate(self._bands))
        self._hashes.clear()
        self._bands.clear()
        self._runs += 1

    def _write(self, name: str, rows: NDArray[Any]) -> None:
        write_array(self._folder / f"{name}-{self._runs:06d}.npy", sorted_rows(rows))

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None and (self._hashes or self._bands):
            self._write_run()


def sorted_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows in the order of their first field, then of the second, and so on."""
    return rows[np.lexsort([rows[field] for field in reversed(rows.dtype.names or ())])]


def read_rows(folders: Iterable[Path], name: str, first: int, last: int) -> NDArray[Any]:
    """Rows of some tasks whose first field is in [first, last], in no order."""
    paths = (path for folder in folders for path in folder.glob(f"{name}-*.npy"))
    return np.concatenate([np.empty(0, dtype=_DTYPES[name]), *(_slice(path, first, last) for path in paths)])


def _slice(path: Path, first: int, last: int) -> NDArray[Any]:
    rows = np.load(path, mmap_mode="r")
    key = itemgetter(rows.dtype.names[0])  # by hand: numpy's search would copy the whole column
    return np.array(rows[bisect_left(rows, first, key=key) : bisect_right(rows, last, key=key)])
