"""Spill files: rows routed to buckets, one file per task however many buckets there are.

A file is a row of zstd frames, each holding rows of one bucket; `<file>.index.npy` says where each bucket's are.
Tasks write them, and whoever handles a bucket reads its frames out of all of them.
"""

from collections import defaultdict
from pathlib import Path
from types import TracebackType

import numpy as np
import zstandard

_INDEX_DTYPE = np.dtype([("bucket", "<u4"), ("offset", "<u8"), ("size", "<u8")])
_BUFFER_BYTES = 64 * 2**20


class SpillWriter:
    """Collects rows by bucket in memory and spills them when they are many."""

    def __init__(self, path: Path, buffer_bytes: int = _BUFFER_BYTES) -> None:
        """Start a file at `path`, whose folder is made if missing; spill whenever `buffer_bytes` are held."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._file = path, path.open("wb")
        self._rows: defaultdict[int, list[bytes]] = defaultdict(list)
        self._buffered, self._buffer_bytes = 0, buffer_bytes
        self._index: list[tuple[int, int, int]] = []
        self._compressor = zstandard.ZstdCompressor(level=1)

    def add(self, bucket: int, row: bytes) -> None:
        """Put a row into a bucket; rows of a bucket stay in order."""
        self._rows[bucket].append(row)
        self._buffered += len(row)
        if self._buffered > self._buffer_bytes:
            self._spill()

    def _spill(self) -> None:
        for bucket, rows in sorted(self._rows.items()):
            frame = self._compressor.compress(b"".join(rows))
            self._index.append((bucket, self._file.tell(), len(frame)))
            self._file.write(frame)
        self._rows.clear()
        self._buffered = 0

    def __enter__(self) -> "SpillWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._spill()
        np.save(_index_path(self._path), np.array(self._index, dtype=_INDEX_DTYPE))


def read_bucket(path: Path, bucket: int) -> bytes:
    """One bucket's rows in a spill file, laid end to end."""
    index = np.load(_index_path(path))
    decompressor = zstandard.ZstdDecompressor()
    with open(path, "rb") as file:
        parts = []
        for _, offset, size in index[index["bucket"] == bucket].tolist():
            file.seek(offset)
            parts.append(decompressor.decompress(file.read(size)))
    return b"".join(parts)


def _index_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.index.npy")
