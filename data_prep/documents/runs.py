"""Documents between reading and sharding: sorted runs on disk, in frames that a range of hashes picks out.

A reading task holds documents up to a bound, sorts them by (split, hash) and writes them as zstd frames of about
64 KiB of text. `documents.index.npy` tells of each frame its split, first and last hash, and where it lies, sorted so.
Whoever wants a range of hashes opens the frames that overlap it, of all runs of all tasks: nothing depends on how many
ranges there will be, and so nothing that was read has to be read again when that changes.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from data_prep.documents.document import HALF_BITS, document_id
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
_ROW = np.dtype(
    [("upper", "<u8"), ("lower", "<u8"), ("position", "<u8"), ("origin", "<u4"), ("text", "<u4"), ("metadata", "<u4")]
)


class StoredDocument(NamedTuple):
    """A cleaned document as it lies in a run."""

    hash: int
    """128-bit seeded hash of the text."""
    origin: str
    """File it was read from."""
    position: int
    """Its number in that file."""
    text: bytes
    """UTF-8."""
    metadata: bytes
    """JSON of the metadata; empty if there is none."""

    def id(self, source: str) -> int:
        """The document's id, 128 bits."""
        return document_id(source, self.origin, self.position)

    @property
    def fields(self) -> Mapping[str, str]:
        """The metadata."""
        return json.loads(self.metadata) if self.metadata else {}


class DocumentWriter:
    """Collects documents and writes a sorted run whenever they are many; a context manager."""

    def __init__(self, folder: Path, run_bytes: int = _RUN_BYTES) -> None:
        """Start the files in `folder`; hold at most about `run_bytes` of text."""
        self._folder, self._run_bytes = folder, run_bytes
        self._file: BinaryIO = (folder / DOCUMENTS_NAME).open("wb")
        self._compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
        self._rows: list[tuple[int, int, int, int, bytes, bytes]] = []
        self._held_bytes = 0
        self._origins: dict[str, int] = {}
        self._index: list[tuple[int, int, int, int, int]] = []

    def add(self, split: int, hash_: int, origin: str, position: int, text: bytes, metadata: bytes) -> None:
        """Add a document that belongs to split number `split`."""
        number = self._origins.setdefault(origin, len(self._origins))
        self._rows.append((split, hash_, position, number, text, metadata))
        self._held_bytes += len(text) + len(metadata) + _OBJECT_BYTES
        if self._held_bytes > self._run_bytes:
            self._write_run()

    def _write_run(self) -> None:
        self._rows.sort()
        start = size = 0
        for stop, row in enumerate(self._rows, 1):
            size += len(row[4]) + len(row[5]) + _ROW.itemsize
            last = stop == len(self._rows)
            if size > FRAME_BYTES or last or self._rows[stop][0] != row[0]:
                self._write_frame(self._rows[start:stop])
                start, size = stop, 0
        self._rows.clear()
        self._held_bytes = 0

    def _write_frame(self, rows: list[tuple[int, int, int, int, bytes, bytes]]) -> None:
        header = np.array(
            [(h >> HALF_BITS, h & _LOWER, position, origin, len(t), len(m)) for _, h, position, origin, t, m in rows],
            dtype=_ROW,
        )
        texts, metadata = b"".join(row[4] for row in rows), b"".join(row[5] for row in rows)
        count = len(rows).to_bytes(4, "little")
        frame = self._compressor.compress(b"".join((count, header.tobytes(), texts, metadata)))
        first, last = int(header["upper"][0]), int(header["upper"][-1])
        self._index.append((rows[0][0], first, last, self._file.tell(), len(frame)))
        self._file.write(frame)

    def __enter__(self) -> "DocumentWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._file:
            if kind is None:
                self._write_run()
        if kind is None:
            write_array(self._folder / INDEX_NAME, np.array(sorted(self._index), dtype=_INDEX))
            facts = {"origins": list(self._origins), "widest": self._widest()}
            (self._folder / FACTS_NAME).write_text(json.dumps(facts), "utf-8")

    def _widest(self) -> list[int]:
        """Of each split, the widest range of hashes that a frame covers."""
        widest = [0] * (1 + max((row[0] for row in self._index), default=0))
        for split, first, last, _, _ in self._index:
            widest[split] = max(widest[split], last - first)
        return widest


_LOWER = (1 << HALF_BITS) - 1


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an npy file through Python's own file object: `np.save` hides the reason when the disk is full."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(np.ascontiguousarray(array).tobytes())


@dataclass(frozen=True)
class DocumentRuns:
    """What one reading task left."""

    folder: Path
    """The task's folder."""

    @cached_property
    def _index(self) -> NDArray[Any]:
        return np.asarray(np.load(self.folder / INDEX_NAME, mmap_mode="r"))

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / FACTS_NAME).read_text("utf-8")))

    def frames(self, split: int, first: int, last: int) -> NDArray[Any]:
        """The index's rows of a split's frames that overlap [first, last]; little of the index is read."""
        if split >= len(self._facts["widest"]):
            return self._index[:0]
        start = bisect_left(self._index, (split, max(0, first - self._facts["widest"][split])), key=_place)
        stop = bisect_right(self._index, (split, last), key=_place)
        frames = np.array(self._index[start:stop])
        return frames[frames["last"] >= first]

    def documents(self, split: int, first: int, last: int) -> Iterator[StoredDocument]:
        """Documents of a split whose hash's upper half is in [first, last], in no order.

        Raises:
            CorpusError: The file is damaged.
        """
        frames = self.frames(split, first, last)
        if not len(frames):
            return
        decompressor = zstandard.ZstdDecompressor()
        with open(self.folder / DOCUMENTS_NAME, "rb") as file:
            for offset, size in frames[["offset", "size"]].tolist():
                file.seek(offset)
                yield from self._unpack(decompressor, file.read(size), first, last)

    def _unpack(
        self, decompressor: zstandard.ZstdDecompressor, frame: bytes, first: int, last: int
    ) -> Iterator[StoredDocument]:
        try:
            data = memoryview(decompressor.decompress(frame))
        except (zstandard.ZstdError, MemoryError) as error:  # a damaged frame may claim any size
            reason = str(error) or "a frame of wild size"
            raise CorpusError(
                f"{self.folder / DOCUMENTS_NAME} is damaged ({reason}); delete that folder and give the same command"
            ) from error
        count = int.from_bytes(data[:4], "little")
        text = 4 + count * _ROW.itemsize
        rows = np.frombuffer(data[4:text], dtype=_ROW)
        origins = self._facts["origins"]
        metadata = text + int(rows["text"].sum(dtype=np.int64))
        for upper, lower, position, origin, text_bytes, metadata_bytes in rows.tolist():
            if first <= upper <= last:
                yield StoredDocument(
                    upper << HALF_BITS | lower,
                    origins[origin],
                    position,
                    bytes(data[text : text + text_bytes]),
                    bytes(data[metadata : metadata + metadata_bytes]),
                )
            text += text_bytes
            metadata += metadata_bytes


def _place(row: Any) -> tuple[int, int]:
    """What the index is sorted by. Searched by hand: numpy would read the whole index."""
    return int(row["split"]), int(row["first"])
