"""The rows of documents that go, written a piece at a time: of one page there may be more copies than memory holds."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.documents.rows import GONE, GONE_ROW


class GoneWriter:
    """Writes a folder's `gone-0.npy`, in the order in which rows are added; a context manager."""

    def __init__(self, folder: Path) -> None:
        """Make the folder and start the file."""
        folder.mkdir(parents=True)
        self._file, self._num_rows = (folder / f"{GONE}-0.npy").open("wb"), 0
        self._write_header()

    def _write_header(self) -> None:
        # numpy leaves room in it for any number of rows
        header = {"descr": GONE_ROW.descr, "fortran_order": False, "shape": (self._num_rows,)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def add(self, rows: NDArray[Any]) -> None:
        """Add documents that go, from rows with `upper` and `node`; the upper halves may only rise."""
        gone = np.empty(len(rows), dtype=GONE_ROW)
        gone["upper"], gone["node"] = rows["upper"], rows["node"]
        self._file.write(gone.tobytes())
        self._num_rows += len(rows)

    def __enter__(self) -> "GoneWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._file:
            self._file.seek(0)
            self._write_header()
