"""Documents between reading and sharding: sorted runs on disk, in frames that a range of hashes picks out.

A reading task holds documents up to a bound, sorts them by (split, hash) and writes them as zstd frames of about
64 KiB of text. `documents.index.npy` tells of each frame its split, first and last hash, and where it lies, sorted so.
Whoever wants a range of hashes opens the frames that overlap it, of all runs of all tasks: nothing depends on how many
ranges there will be, and so nothing that was read has to be read again when that changes.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import zstandard
from numpy.typing import NDArray

from data_prep.documents.document import upper_half
from data_prep.documents.frames import ROW, StoredDocument, pack_frame, unpack_frame
from pipeline.errors import CorpusError

DOCUMENTS_NAME = "documents"
INDEX_NAME = "documents.index.npy"
FACTS_NAME = "documents.json"
_RUN_BYTES = 96 * 2**20
FRAME_BYTES = 64 * 2**10
"""About how much text a frame holds."""
_OBJECT_BYTES = 256
"""About what Python needs for a document beside its text: very short ones count, too."""
_INDEX = np.dtype([("split", "<u4"), ("first", "<u8"), ("last", "<u8"), ("offset", "<u8"), ("size", "<u4")])


class DocumentWriter:
    """Collects documents and writes a sorted run whenever they are many; a context manager."""

    def __init__(self, folder: Path, run_bytes: int = _RUN_BYTES) -> None:
        """Start the files in `folder`; hold at most about `run_bytes` of text."""
        self._folder, self._run_bytes = folder, run_bytes
        self._file: BinaryIO = (folder / DOCUMENTS_NAME).open("wb")
        self._compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
        self._rows: list[tuple[int, StoredDocument]] = []
        self._held_bytes = 0
        self._index: list[tuple[int, int, int, int, int]] = []

    def add(self, split: int, hash_: int, origin: str, position: int, text: bytes, metadata: bytes) -> None:
        """Add a document that belongs to split number `split`."""
        self._rows.append((split, StoredDocument(hash_, origin, position, text, metadata)))
        self._held_bytes += len(text) + len(metadata) + _OBJECT_BYTES
        if self._held_bytes > self._run_bytes:
            self._write_run()

    def _write_run(self) -> None:
        self._rows.sort()
        start = size = 0
        for stop, (split, document) in enumerate(self._rows, 1):
            size += len(document.text) + len(document.metadata) + ROW.itemsize
            last = stop == len(self._rows)
            if size > FRAME_BYTES or last or self._rows[stop][0] != split:
                self._write_frame(split, [one for _, one in self._rows[start:stop]])
                start, size = stop, 0
        self._rows.clear()
        self._held_bytes = 0

    def _write_frame(self, split: int, documents: list[StoredDocument]) -> None:
        frame = self._compressor.compress(pack_frame(documents))
        first, last = upper_half(documents[0].hash), upper_half(documents[-1].hash)
        self._index.append((split, first, last, self._file.tell(), len(frame)))
        self._file.write(frame)

    def __enter__(self) -> "DocumentWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._file:
            if kind is None:
                self._write_run()
        if kind is None:
            write_array(self._folder / INDEX_NAME, np.array(sorted(self._index), dtype=_INDEX))
            (self._folder / FACTS_NAME).write_text(json.dumps({"widest": self._widest()}), "utf-8")

    def _widest(self) -> list[int]:
        """Of each split, the widest range of hashes that a frame covers."""
        widest = [0] * (1 + max((row[0] for row in self._index), default=0))
        for split, first, last, _, _ in self._index:
            widest[split] = max(widest[split], last - first)
        return widest


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an npy file through Python's own file object: `np.save` hides the reason when the disk is full."""
    array = np.ascontiguousarray(array)  # its header says in which order it is
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.tobytes())


@contextmanager
def lost_if_broken(path: Path) -> Iterator[Path]:
    """Around the opening of a task's file: raises CorpusError if it is not there any more, or not whole."""
    try:
        yield path
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise CorpusError(
            f"{path} is missing or damaged since its task finished; delete {path.parent} and give the same command:"
            " only what is missing is done again"
        ) from error


@dataclass(frozen=True)
class DocumentRuns:
    """What one reading task left."""

    folder: Path
    """The task's folder."""

    @cached_property
    def _widest(self) -> list[int]:
        with lost_if_broken(self.folder / FACTS_NAME) as path:
            return list(json.loads(path.read_bytes())["widest"])

    def frames(self, split: int, first: int, last: int) -> NDArray[Any]:
        """The index's rows of a split's frames that overlap [first, last]; little of the index is read."""
        if split >= len(self._widest):
            return np.empty(0, dtype=_INDEX)
        # mapped anew each time: whoever holds the runs of thousands of tasks would have as many files open
        with lost_if_broken(self.folder / INDEX_NAME) as path:
            index = np.load(path, mmap_mode="r")
        start = bisect_left(index, (split, max(0, first - self._widest[split])), key=_place)
        stop = bisect_right(index, (split, last), key=_place)
        frames = np.array(index[start:stop])
        return frames[frames["last"] >= first]

    def documents(self, split: int, first: int, last: int) -> Iterator[StoredDocument]:
        """Documents of a split whose hash's upper half is in [first, last], in no order.

        Raises:
            CorpusError: A file is missing or damaged.
        """
        frames = self.frames(split, first, last)
        if not len(frames):
            return
        decompressor = zstandard.ZstdDecompressor()
        with lost_if_broken(self.folder / DOCUMENTS_NAME) as path:
            file = path.open("rb")
        with file:
            for offset, size in frames[["offset", "size"]].tolist():
                file.seek(offset)
                yield from self._unpack(decompressor, file.read(size), first, last)

    def _unpack(
        self, decompressor: zstandard.ZstdDecompressor, frame: bytes, first: int, last: int
    ) -> Iterator[StoredDocument]:
        try:
            data = decompressor.decompress(frame)
        except (zstandard.ZstdError, MemoryError) as error:  # a damaged frame may claim any size
            reason = str(error) or "a frame of wild size"
            raise CorpusError(
                f"{self.folder / DOCUMENTS_NAME} is damaged ({reason}); delete that folder and give the same command"
            ) from error
        yield from unpack_frame(data, first, last)


def _place(row: Any) -> tuple[int, int]:
    """What the index is sorted by. Searched by hand: numpy would read the whole index."""
    return int(row["split"]), int(row["first"])
