"""Exact deduplication: of documents with equal text, the one of the first source and lowest id stays.

The hashes of all sources are partitioned by range, so that equal ones meet and no process holds them all.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.document import HALF_BITS, Document, lower_half, upper_half
from data_prep.spill import read_bucket

HASHES_NAME = "hashes"
_ROW = np.dtype(
    [("upper", "<u8"), ("lower", "<u8"), ("source", "<u8"), ("id_upper", "<u8"), ("id_lower", "<u8"), ("bytes", "<u8")]
)
_PACK = struct.Struct("<6Q").pack


def hash_row(hash_: int, source_number: int, document: Document) -> bytes:
    """What deduplication needs to know about a document, as bytes."""
    id_ = int(document.id, 16)
    text_bytes = len(document.text.encode("utf-8"))
    return _PACK(upper_half(hash_), lower_half(hash_), source_number, upper_half(id_), lower_half(id_), text_bytes)


@dataclass(frozen=True)
class DedupTask:
    """One range of hashes."""

    partition: int
    """Number of the range."""
    read_folders: tuple[Path, ...]
    """Where the reading tasks left their hashes."""
    output: Path
    """File for the ids of duplicates."""


@dataclass(frozen=True)
class Kept:
    """What is left of one source in one range of hashes."""

    documents: int
    """Documents that stay."""
    duplicates: int
    """Documents that go."""
    text_bytes: int
    """Bytes of text that stay."""
    lowest: int
    """Lowest lower half of the hashes that stay; 2^64 if none does."""
    highest: int
    """Highest lower half of the hashes that stay; 0 if none does."""


def find_duplicates(task: DedupTask) -> dict[int, Kept]:
    """Write the ids of a range's duplicates and return what is left, by source number."""
    rows = np.concatenate(
        [np.frombuffer(read_bucket(folder / HASHES_NAME, task.partition), dtype=_ROW) for folder in task.read_folders]
    )
    rows = rows[np.lexsort([rows[name] for name in ("id_lower", "id_upper", "source", "lower", "upper")])]
    repeated = np.zeros(len(rows), dtype=bool)
    repeated[1:] = (rows["upper"][1:] == rows["upper"][:-1]) & (rows["lower"][1:] == rows["lower"][:-1])
    task.output.parent.mkdir(parents=True, exist_ok=True)
    np.save(task.output, rows[repeated][["id_upper", "id_lower"]])
    return {int(source): _kept(rows, repeated, source) for source in np.unique(rows["source"])}


def _kept(rows: NDArray[Any], repeated: NDArray[np.bool_], source: int) -> Kept:
    ours = rows["source"] == source
    left = rows[ours & ~repeated]
    return Kept(
        documents=len(left),
        duplicates=int((ours & repeated).sum()),
        text_bytes=int(left["bytes"].sum()),
        lowest=int(left["lower"].min()) if len(left) else 1 << HALF_BITS,
        highest=int(left["lower"].max()) if len(left) else 0,
    )


def merge_kept(parts: Sequence[Kept]) -> Kept:
    """What is left of one source over all ranges."""
    return Kept(
        documents=sum(part.documents for part in parts),
        duplicates=sum(part.duplicates for part in parts),
        text_bytes=sum(part.text_bytes for part in parts),
        lowest=min((part.lowest for part in parts), default=1 << HALF_BITS),
        highest=max((part.highest for part in parts), default=0),
    )


def read_duplicates(paths: Sequence[Path]) -> set[str]:
    """The document ids in some files of `find_duplicates`."""
    ids = (row for path in paths for row in np.load(path).tolist())
    return {f"{(upper << HALF_BITS) | lower:032x}" for upper, lower in ids}
