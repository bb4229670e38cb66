"""Exact deduplication: of documents with equal text, the one of the first source and lowest id stays.

Rows of all sources are taken by range of hashes, so that equal ones meet and no process holds them all. What a source
keeps depends on the sources before it only, so appending one changes nothing of the others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_prep.documents.document import HALF_BITS, lower_half
from data_prep.documents.rows import GONE, GONE_ROW, HASHES, read_rows, sorted_rows
from data_prep.documents.runs import write_array
from data_prep.documents.split import SPLITS, Extremes
from data_prep.tasks.task import Task


@dataclass(frozen=True)
class SourceReads:
    """What the reading tasks of one source left."""

    name: str
    """The source."""
    digest: str
    """Checksum over the files."""
    folders: tuple[str, ...] = field(compare=False)
    """The tasks' folders, relative to the work folder."""


@dataclass(frozen=True)
class Kept:
    """What is left of one source in one range of hashes."""

    text_bytes: int = 0
    """Bytes of text that stay."""
    exact: int = 0
    """Documents that go because an equal one stays."""
    near: int = 0
    """Documents that go because a nearly equal one stays."""
    gone_digest: int = 0
    """64 bits that are equal for equal sets of documents that go, however they are divided into ranges."""
    extremes: Extremes = field(default_factory=Extremes)
    """How many stay in each split, and the outermost of them."""

    @property
    def documents(self) -> int:
        """Documents that stay."""
        return sum(self.extremes.documents)


@dataclass(frozen=True)
class DedupTask(Task):
    """One range of hashes of all sources."""

    phase: ClassVar[str] = "dedup"
    result_type: ClassVar[Any] = dict[str, Kept]

    sources: tuple[SourceReads, ...]
    """In the order of the config: of equal documents the one of the first source stays."""
    first: int
    """First of the range of hashes' upper halves."""
    last: int
    """Last of it."""
    exact: bool
    """Whether equal texts are duplicates."""
    near_digest: str
    """Checksum over the near-duplicates."""
    near: Mapping[str, tuple[str, ...]] = field(compare=False)
    """Folders that hold the near-duplicates of each source, relative to the work folder."""

    def run(self, work: Path, folder: Path) -> dict[str, Kept]:
        """Write what goes of each source, `gone-<source>/gone-0.npy`, and return what stays."""
        parts = [self._rows(work, number, source) for number, source in enumerate(self.sources)]
        rows = np.concatenate(parts)
        rows = rows[np.lexsort([rows[name] for name in ("node", "source", "lower", "upper")])]
        repeated = np.zeros(len(rows), dtype=bool)
        if self.exact:
            repeated[1:] = (rows["upper"][1:] == rows["upper"][:-1]) & (rows["lower"][1:] == rows["lower"][:-1])
        return {
            source.name: _decide(rows[ours], repeated[ours], folder / f"gone-{source.name}")
            for number, source in enumerate(self.sources)
            if (ours := rows["source"] == number).any()
        }

    def _rows(self, work: Path, number: int, source: SourceReads) -> NDArray[Any]:
        hashes = read_rows((work / folder for folder in source.folders), HASHES, self.first, self.last)
        near = read_rows((work / folder for folder in self.near.get(source.name, ())), GONE, self.first, self.last)
        rows = np.empty(len(hashes), dtype=[*hashes.dtype.descr, ("source", "<u2"), ("near", "?")])
        for name in hashes.dtype.names or ():
            rows[name] = hashes[name]
        rows["source"], rows["near"] = number, np.isin(hashes["node"], near["node"])
        return rows


def _decide(rows: NDArray[Any], repeated: NDArray[np.bool_], folder: Path) -> Kept:
    goes = repeated | rows["near"]
    gone = np.empty(int(goes.sum()), dtype=GONE_ROW)
    gone["upper"], gone["node"] = rows["upper"][goes], rows["node"][goes]
    folder.mkdir(parents=True)
    write_array(folder / f"{GONE}-0.npy", sorted_rows(gone))
    left = rows[~goes]
    return Kept(
        text_bytes=int(left["bytes"].sum(dtype=np.int64)),
        exact=int(repeated.sum()),
        near=int((goes & ~repeated).sum()),
        gone_digest=int((gone["node"] ^ gone["upper"]).sum(dtype=np.uint64)),
        extremes=_extremes(left),
    )


def _extremes(rows: NDArray[Any]) -> Extremes:
    counts = np.bincount(rows["split"], minlength=len(SPLITS)).tolist()
    train, held_out = rows[rows["split"] == 0], rows[rows["split"] != 0]
    return Extremes(
        documents=(counts[0], counts[1], counts[2]),
        lowest=_hash(train[train["lower"].argmin()]) if len(train) else None,
        highest=_hash(held_out[held_out["lower"].argmax()]) if len(held_out) else None,
    )


def _hash(row: Any) -> int:
    return int(row["upper"]) << HALF_BITS | int(row["lower"])


def merge_kept(parts: Iterable[Kept]) -> Kept:
    """What is left of one source over all ranges."""
    parts = list(parts)
    lowest = [part.extremes.lowest for part in parts if part.extremes.lowest is not None]
    highest = [part.extremes.highest for part in parts if part.extremes.highest is not None]
    documents = [sum(counts) for counts in zip(*(part.extremes.documents for part in parts), strict=True)] or [0, 0, 0]
    return Kept(
        text_bytes=sum(part.text_bytes for part in parts),
        exact=sum(part.exact for part in parts),
        near=sum(part.near for part in parts),
        gone_digest=sum(part.gone_digest for part in parts) % (1 << 64),
        extremes=Extremes(
            (documents[0], documents[1], documents[2]),
            min(lowest, key=lower_half, default=None),
            max(highest, key=lower_half, default=None),
        ),
    )
