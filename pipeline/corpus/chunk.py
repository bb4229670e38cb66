"""A chunk: about a mebitoken of whole documents, one webdataset sample of three members.

000000017.tokens.npy    1-D uint16 or uint32
000000017.docends.npy   1-D uint32, exclusive end of each document, its EOS included
000000017.meta.json     where each document came from, and the xxh3 of the tokens' bytes
"""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

MEMBERS = ("tokens.npy", "docends.npy", "meta.json")
NPY_HEADER_BYTES = 128
"""Header of a one-dimensional array; with the tar header it keeps tokens aligned to 64 bytes."""


@dataclass(frozen=True)
class DocumentRecord:
    """Where a document came from."""

    id: str
    """32 hexadecimal digits: hash of (source, origin, position)."""
    origin: str
    """File it was read from, by its name below the entry of `paths` that it was found in."""
    position: int
    """Its number in that file."""
    text_bytes: int
    """UTF-8 bytes of its cleaned text; 0 in a chunk that continues it."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What was kept of its source's own fields."""


@dataclass(frozen=True)
class Chunk:
    """Tokens of consecutive documents. Only a document longer than a chunk crosses into the next one."""

    tokens: NDArray[Any]
    """1-D."""
    document_ends: NDArray[np.uint32]
    """Exclusive ends; one fewer than `documents` when `continues`."""
    documents: tuple[DocumentRecord, ...]
    """One for each document that has tokens here."""
    continued: bool = False
    """The first document began in the chunk before."""
    continues: bool = False
    """The last document goes on in the next chunk."""


def token_hash(tokens: NDArray[Any]) -> int:
    """xxh3 of the tokens' bytes."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(tokens).data)


def encode_chunk(chunk: Chunk) -> dict[str, bytes]:
    """The bytes of a chunk's members, the same for the same chunk on every machine."""
    metadata = [dict(document.metadata) for document in chunk.documents]
    meta = {
        "version": 1,
        "ids": [document.id for document in chunk.documents],
        "origins": [document.origin for document in chunk.documents],
        "positions": [document.position for document in chunk.documents],
        "text_bytes": [document.text_bytes for document in chunk.documents],
        "continued": chunk.continued,
        "continues": chunk.continues,
        "xxh3": f"{token_hash(chunk.tokens):016x}",
        **({"metadata": metadata} if any(metadata) else {}),
    }
    text = json.dumps(meta, separators=(",", ":"), ensure_ascii=False)
    contents = (npy_bytes(chunk.tokens), npy_bytes(chunk.document_ends), text.encode("utf-8"))
    return dict(zip(MEMBERS, contents, strict=True))


def decode_documents(meta: dict[str, Any]) -> tuple[DocumentRecord, ...]:
    """The document records of a parsed `meta.json`."""
    metadata = meta.get("metadata") or [{}] * len(meta["ids"])
    columns = zip(meta["ids"], meta["origins"], meta["positions"], meta["text_bytes"], metadata, strict=True)
    return tuple(DocumentRecord(*row) for row in columns)


def npy_bytes(array: NDArray[Any]) -> bytes:
    """A little-endian array in npy format 1.0, whose header is 128 bytes for one dimension."""
    buffer = io.BytesIO()
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    np.lib.format.write_array(buffer, np.ascontiguousarray(little), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def npy_array(content: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The inverse of `npy_bytes` for one dimension. Raises ValueError if it is something else, or cut.

    NumPy parses headers with Python's own parser, which fails with a SystemError when two threads happen to be in it
    (seen on Python 3.11). Shards are opened in the background while the main thread compiles.
    """
    shape = re.search(rb"'shape': \((\d+),\)", content[:256])
    if shape is None:
        raise ValueError("not a one-dimensional array")
    header = io.BytesIO()
    written = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (int(shape[1]),)}
    np.lib.format.write_array_header_1_0(header, written)
    size = header.tell()
    if content[:size] != header.getvalue() or len(content) != size + int(shape[1]) * dtype.itemsize:
        raise ValueError(f"not an array of {dtype}, or cut")
    return np.frombuffer(content, dtype, offset=size)
