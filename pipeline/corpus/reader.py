"""Reading shards: a tarball is mmapped, and any stretch of its token stream is a slice."""

import json
import mmap
import tarfile
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.chunk import NPY_HEADER_BYTES, DocumentRecord, decode_documents, npy_array, token_hash
from pipeline.corpus.index import DamagedShardError, build_index, read_index
from pipeline.corpus.members import ends_fit, members
from pipeline.corpus.stretches import split_at

_NPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class DocumentSpan:
    """A document's place in its shard's token stream."""

    record: DocumentRecord
    start: int
    stop: int


class DamagedChunkError(DamagedShardError):
    """A chunk's tokens are not those that were written."""

    def __init__(self, shard: Path, chunk: int) -> None:
        """Name the shard and the chunk."""
        super().__init__(f"shard {shard}: chunk {chunk} is damaged; run `tarmac verify --repair` on the corpus")
        self.shard, self.chunk = shard, chunk


class ShardReader:
    """One shard's token stream: its chunks' tokens laid end to end."""

    def __init__(self, path: str | Path, dtype: str, num_tokens: int) -> None:
        """Map the tarball.

        Args:
            path: The tarball.
            dtype: Type of its tokens, from the manifest.
            num_tokens: How many it must hold, from the manifest.

        Raises:
            DamagedShardError: The file is missing, cut short, or holds another number of tokens.
        """
        self.path = Path(path)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.num_tokens = num_tokens
        try:
            with open(self.path, "rb") as file:
                self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DamagedShardError(
                f"shard {self.path} cannot be mapped ({error}); prepare the corpus again"
            ) from error
        self._bytes = np.frombuffer(self._mapping, np.uint8)
        index = read_index(self.path)
        if not self._fits(index):
            index = build_index(self.path)
        self._offsets: list[int] = index["offset"].tolist()
        self._hashes: list[int] = index["xxh3"].tolist()
        self._verified = np.zeros(len(index), dtype=bool)
        self.excused: frozenset[int] = frozenset()
        """Chunks that are read as they are: whoever reads them knows that they are damaged."""
        self._starts: list[int] = [0, *np.cumsum(index["tokens"], dtype=np.int64).tolist()]
        if not self._fits(index):
            raise DamagedShardError(
                f"shard {self.path} holds {self._starts[-1]} tokens, the manifest says {self.num_tokens};"
                " it is damaged or from another corpus: run `tarmac verify` on the corpus"
            )

    def _fits(self, index: NDArray[Any]) -> bool:
        """Whether an index speaks of this file: as many tokens as promised, each chunk's behind an npy header."""
        offsets = index["offset"].astype(np.int64)
        ends = offsets + index["tokens"].astype(np.int64) * self.dtype.itemsize
        if int(index["tokens"].sum()) != self.num_tokens or (ends > len(self._bytes)).any():
            return False
        headers = np.maximum(0, offsets - NPY_HEADER_BYTES)[:, None] + np.arange(len(_NPY_MAGIC))
        self._mapping.madvise(mmap.MADV_RANDOM)  # one page for each header, without what lies around it
        found = self._bytes[headers]
        self._mapping.madvise(mmap.MADV_NORMAL)
        return bool((found == np.frombuffer(_NPY_MAGIC, np.uint8)).all())

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return len(self._offsets)

    def chunk_span(self, chunk: int) -> tuple[int, int]:
        """Where a chunk's tokens lie in the stream."""
        return self._starts[chunk], self._starts[chunk + 1]

    def tokens(self, start: int, stop: int) -> NDArray[Any]:
        """Tokens [start, stop) of the stream: a view into the file, or a copy where it crosses chunks."""
        if not 0 <= start <= stop <= self.num_tokens:
            raise IndexError(f"tokens [{start}, {stop}) are outside [0, {self.num_tokens}) of {self.path}")
        chunk = max(0, min(bisect_right(self._starts, start) - 1, self.num_chunks - 1))
        parts = []
        while start < stop:
            upto = min(stop, self._starts[chunk + 1])
            parts.append(self._slice(chunk, start, upto))
            start, chunk = upto, chunk + 1
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, self.dtype)

    def rows(self, starts: NDArray[np.int64], length: int) -> NDArray[Any]:
        """Stretches of the stream that begin at some places, shape (starts, length); all lie within it.

        Raises:
            DamagedChunkError: A chunk that they touch is damaged; each is verified when it is first touched.
        """
        first, last = self._chunks(starts), self._chunks(starts + (length - 1))
        self.verify(first)
        # Where a row crosses chunks, so many elements follow in the file, but not all of them are tokens.
        rows: NDArray[Any] = self._windows(length)[self._shifts[first] + starts]
        for row in np.flatnonzero(first != last).tolist():
            self.verify(np.arange(first[row] + 1, last[row] + 1))
            rows[row] = self.tokens(int(starts[row]), int(starts[row]) + length)
        return rows

    def stretches(
        self, starts: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Stretches [start, stop) of the stream, cut where a chunk ends.

        Returns starts, stops, which stretch each is part of, and where it begins in `elements`. Raises as `rows` does.
        """
        starts, stops, which = split_at(starts, stops, self._bounds)
        chunks = self._chunks(starts)
        self.verify(chunks)
        return starts, stops, which, self._shifts[chunks] + starts

    @cached_property
    def elements(self) -> NDArray[Any]:
        """The file as if it held nothing but tokens."""
        size = self.dtype.itemsize
        return np.asarray(self._bytes[: len(self._bytes) // size * size]).view(self.dtype)

    @cached_property
    def _bounds(self) -> NDArray[np.int64]:
        return np.array(self._starts, dtype=np.int64)

    @cached_property
    def _shifts(self) -> NDArray[np.int64]:
        """From a token's place in the stream to its place in `elements`, by chunk: tokens are aligned to 64 bytes."""
        return np.array(self._offsets, dtype=np.int64) // self.dtype.itemsize - self._bounds[:-1]

    def _chunks(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The chunk that each of some tokens is in."""
        return self._bounds.searchsorted(places, side="right") - 1

    def _windows(self, length: int) -> NDArray[Any]:
        """The stretch that begins at each of the file's elements: a view. NumPy's own function for it is slow."""
        shape, step = (max(0, len(self.elements) - length + 1), length), self.dtype.itemsize
        return np.ndarray(shape, self.dtype, self.elements.data, strides=(step, step))

    def verify(self, chunks: NDArray[np.int64]) -> None:
        """Compare chunks' tokens with their hashes, once. Raises DamagedChunkError at one that is not excused."""
        for chunk in sorted(set(chunks[~self._verified[chunks]].tolist())):
            if chunk in self.excused:
                continue
            if not self._is_whole(chunk):
                raise DamagedChunkError(self.path, chunk)
            self._verified[chunk] = True

    def _is_whole(self, chunk: int) -> bool:
        """Whether a chunk fits its hash: the index's or, as that may be what is damaged, the tarball's own."""
        found = token_hash(self._slice(chunk, self._starts[chunk], self._starts[chunk + 1]))
        return found == self._hashes[chunk] or found == self._written_hashes.get(chunk)

    @cached_property
    def _written_hashes(self) -> dict[int, int]:
        """The hash of each chunk as its metadata tell it; none where these cannot be read."""
        try:
            return {chunk: int(meta["xxh3"], 16) for chunk, (_, meta, _) in enumerate(self._metadata())}
        except (DamagedShardError, LookupError, ValueError):
            return {}

    def _slice(self, chunk: int, start: int, stop: int) -> NDArray[Any]:
        size = self.dtype.itemsize
        first = self._offsets[chunk] + (start - self._starts[chunk]) * size
        return self._bytes[first : first + (stop - start) * size].view(self.dtype)

    def document_ends(self) -> NDArray[np.int64]:
        """Where each document ends in the stream, exclusive; one that spans chunks once. Raises DamagedShardError."""
        found = [np.asarray(ends, np.int64) + base for base, _, ends in self._metadata()]
        return np.concatenate([np.empty(0, np.int64), *found])

    def damaged_chunks(self) -> list[int]:
        """Numbers of the chunks whose tokens do not match their hash; reads the whole shard."""
        return [chunk for chunk in range(self.num_chunks) if not self._is_whole(chunk)]

    def documents(self) -> Iterator[DocumentSpan]:
        """All documents with their places in the stream, in order; one that spans chunks comes once.

        Raises:
            DamagedShardError: The metadata are not what was written.
        """
        open_record: DocumentRecord | None = None
        start = 0
        with self._damage_named():
            for base, meta, ends in self._metadata():
                records = decode_documents(meta)
                for number, end in enumerate(ends):
                    record = open_record if number == 0 and open_record is not None else records[number]
                    yield DocumentSpan(record, start, base + end)
                    open_record, start = None, base + end
                if meta["continues"] and open_record is None:
                    open_record = records[-1]

    def raw_metadata(self) -> Iterator[bytes]:
        """The metadata of each chunk as they were written. Raises DamagedShardError."""
        with self._damage_named():
            for _, content in members(self._bytes, ".meta.json"):
                yield content

    def _metadata(self) -> Iterator[tuple[int, dict[str, Any], list[int]]]:
        """Per chunk: stream position of its first token, parsed meta.json, document ends."""
        chunk, ends = 0, np.empty(0, np.dtype("<u4"))
        with self._damage_named():
            for name, content in members(self._bytes, ".docends.npy", ".meta.json"):
                if name.endswith(".docends.npy"):
                    ends = npy_array(content, np.dtype("<u4"))
                else:
                    meta = json.loads(content)
                    if not ends_fit(ends, meta, self._starts[chunk + 1] - self._starts[chunk]):
                        raise ValueError(f"the document ends of chunk {chunk} do not fit it")
                    yield self._starts[chunk], meta, ends.tolist()
                    chunk += 1
            if chunk != self.num_chunks:  # a tarball with a damaged header ends there without an error
                raise ValueError(f"there are those of {chunk} chunks, should be {self.num_chunks}")

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        """What goes wrong with metadata as an error that names the shard."""
        try:
            yield
        except (tarfile.TarError, LookupError, TypeError, ValueError) as error:
            raise DamagedShardError(
                f"shard {self.path}: its metadata are damaged ({error}); run `tarmac verify --repair` on the corpus"
            ) from error
