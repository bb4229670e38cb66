"""One frame of documents: the unit that is compressed and read at a time. It holds all that its documents need."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import orjson

from data_prep.documents.document import HALF_BITS, document_id

_LOWER = (1 << HALF_BITS) - 1
_HEAD = np.dtype([("documents", "<u4"), ("origins", "<u4")])
ROW = np.dtype(
    [("upper", "<u8"), ("lower", "<u8"), ("position", "<u8"), ("origin", "<u4"), ("text", "<u4"), ("metadata", "<u4")]
)
"""Of a document: the halves of its text's hash, its number in its file, the file's number in the frame, bytes of its
text and of its metadata."""


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


def pack_frame(documents: Sequence[StoredDocument]) -> bytes:
    """Head, rows, the files that the documents are from, texts, metadata."""
    origins: dict[str, int] = {}
    rows = np.array(
        [
            (
                one.hash >> HALF_BITS,
                one.hash & _LOWER,
                one.position,
                origins.setdefault(one.origin, len(origins)),
                len(one.text),
                len(one.metadata),
            )
            for one in documents
        ],
        dtype=ROW,
    )
    names = orjson.dumps(list(origins))
    head = np.array([(len(rows), len(names))], dtype=_HEAD)
    texts, metadata = (one.text for one in documents), (one.metadata for one in documents)
    return b"".join((head.tobytes(), rows.tobytes(), names, *texts, *metadata))


def unpack_frame(frame: bytes, first: int, last: int) -> Iterator[StoredDocument]:
    """The documents of a frame whose hash's upper half is in [first, last]."""
    data = memoryview(frame)
    count, origin_bytes = np.frombuffer(data[: _HEAD.itemsize], dtype=_HEAD)[0].item()
    names = _HEAD.itemsize + count * ROW.itemsize
    rows = np.frombuffer(data[_HEAD.itemsize : names], dtype=ROW)
    text = names + origin_bytes
    origins = orjson.loads(data[names:text])
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
