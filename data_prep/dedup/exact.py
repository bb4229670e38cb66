"""Exact deduplication: of documents with equal text, the one of the first source and lowest id stays.

Rows of all sources are taken by range of hashes, so that equal ones meet and no process holds them all. What a source
keeps depends on the sources before it only, so appending one changes nothing of the others.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.gone import GoneWriter
from data_prep.dedup.ordered import Rows, Stretch, in_order, stretches, with_firsts, within
from data_prep.documents.document import HALF_BITS, lower_half
from data_prep.documents.rows import GONE, HASHES
from data_prep.documents.split import SPLITS, Extremes
from data_prep.tasks.task import Task

_ORDER = ("upper", "lower", "source", "node")
"""Of rows that agree in both halves of the hash, the first one stays."""


@dataclass(frozen=True)
class SourceReads:
    """What the reading tasks of one source left."""

    name: str
    """The source."""
    digest: str
    """Checksum over the rows."""
    folders: tuple[str, ...] = field(compare=False)
    """The tasks' folders, relative to the work folder."""
    band_bytes: int = field(default=0, compare=False)
    """Size of the rows with band hashes."""
    node_bytes: int = field(default=0, compare=False)
    """Size of the rows with the documents' nodes."""
    documents_digest: str = field(default="", compare=False)
    """Checksum over the documents with their metadata, which decide nothing here."""


@dataclass(frozen=True)
class Kept:
    """What is left of one source, in one range of hashes or in all."""

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
        kept: dict[str, list[Kept]] = {}
        with ExitStack() as stack:
            gone: dict[str, GoneWriter] = {}
            for rows, is_first in with_firsts(in_order(self._rows(work), _ORDER), ("upper", "lower")):
                repeated = ~is_first & self.exact
                for number, source in enumerate(self.sources):
                    ours = rows["source"] == number
                    if not ours.any():
                        continue
                    if source.name not in gone:
                        gone[source.name] = stack.enter_context(GoneWriter(folder / f"gone-{source.name}"))
                    near = self._near(work, source.name, rows[ours])
                    part = _decide(rows[ours], repeated[ours], near, gone[source.name])
                    kept.setdefault(source.name, []).append(part)
        return {source.name: merge_kept(kept[source.name]) for source in self.sources if source.name in kept}

    def _rows(self, work: Path) -> list[Stretch]:
        return [
            stretch
            for number, source in enumerate(self.sources)
            for stretch in stretches(
                (work / folder for folder in source.folders), HASHES, number, self.first, self.last
            )
        ]

    def _near(self, work: Path, source: str, rows: Rows) -> NDArray[np.bool_]:
        """Which of some rows, sorted, are of near-duplicates."""
        first, last = int(rows["upper"][0]), int(rows["upper"][-1])
        found = stretches((work / folder for folder in self.near.get(source, ())), GONE, 0, first, last)
        if first == last:  # of one hash there may be more than memory holds
            found = within(found, "node", int(rows["node"].min()), int(rows["node"].max()))
        near = np.zeros(len(rows), bool)
        for piece in in_order(found, ("upper", "node")):
            near |= np.isin(rows["node"], piece["node"])
        return near


def _decide(rows: Rows, repeated: NDArray[np.bool_], near: NDArray[np.bool_], writer: GoneWriter) -> Kept:
    goes = repeated | near
    gone, left = rows[goes], rows[~goes]
    writer.add(gone)
    return Kept(
        text_bytes=int(left["bytes"].sum(dtype=np.int64)),
        exact=int(repeated.sum()),
        near=int((near & ~repeated).sum()),
        gone_digest=int((gone["node"] ^ gone["upper"]).sum(dtype=np.uint64)),
        extremes=_extremes(left),
    )


def _extremes(rows: Rows) -> Extremes:
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
