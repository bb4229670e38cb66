"""Near-duplicates, source by source: which documents go because a nearly equal one stays."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.components import budget_for, connect, decide, move_edges
from data_prep.dedup.edges import EdgeWriter
from data_prep.dedup.exact import SourceReads
from data_prep.dedup.links import links
from data_prep.dedup.ordered import stretches
from data_prep.dedup.stars import Star
from data_prep.documents.rows import BAND_ROW, BANDS, GONE, GONE_ROW, NODE_ROW, NODES, sorted_rows
from data_prep.documents.runs import write_array
from data_prep.documents.source import hash_ranges
from data_prep.tasks.counts import total
from data_prep.tasks.runner import Runner
from data_prep.tasks.store import Done
from data_prep.tasks.task import Task

_RANGE_ROWS = 1 << 22
"""Band hashes in a range, about."""
_RANGE_NODES = 1 << 25
"""Documents in a range of those that are looked at for what goes, at most about; each range opens every run."""
_LINKS_HELD = 1 << 21
"""Links that are held at a time."""
MEMORY_BYTES = 400 * 2**20
"""For the edges that one task holds."""


@dataclass(frozen=True)
class NearDuplicates:
    """Documents that go."""

    digest: str = ""
    """Checksum over them."""
    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Source -> folders with their rows, relative to the work folder."""
    clusters: Mapping[int, int] = field(default_factory=dict)
    """Documents in a cluster -> clusters of that size."""


@dataclass(frozen=True)
class LinkTask(Task):
    """One range of band hashes of a source."""

    phase: ClassVar[str] = "links"
    result_type: ClassVar[Any] = int

    source: SourceReads
    """The source."""
    earlier: tuple[SourceReads, ...]
    """The sources before it."""
    first: int
    """First of the range."""
    last: int
    """Last of it."""

    def run(self, work: Path, folder: Path) -> int:
        """Write edges between documents that share a band, and return how many."""
        folders = (work / name for source in self.earlier for name in source.folders)
        earlier = stretches(folders, BANDS, 0, self.first, self.last)
        own = stretches((work / name for name in self.source.folders), BANDS, 1, self.first, self.last)
        with EdgeWriter(folder, _LINKS_HELD) as writer:
            for edges in links(earlier, own):
                writer.add(edges)
        return writer.num_edges


@dataclass(frozen=True)
class StarTask(Task):
    """One step towards connected components, on one range of nodes."""

    phase: ClassVar[str] = "clusters"
    result_type: ClassVar[Any] = bool

    star: Star
    """Which step."""
    edges: str
    """Checksum over the edges it starts from."""
    first: int
    """First of the range of nodes."""
    last: int
    """Last of it."""
    max_edges: int
    """Edges that are held at a time."""
    inputs: tuple[str, ...] = field(compare=False)
    """Folders with the edges, relative to the work folder."""

    def run(self, work: Path, folder: Path) -> bool:
        """Write the moved edges and say whether any moved."""
        inputs = [work / name for name in self.inputs]
        return move_edges(self.star, inputs, self.first, self.last, folder, self.max_edges)


@dataclass(frozen=True)
class DecideTask(Task):
    """What goes of one source, in one range of nodes."""

    phase: ClassVar[str] = "near"
    result_type: ClassVar[Any] = dict[int, int]

    source: SourceReads
    """The source."""
    stars: str
    """Checksum over its clusters."""
    first: int
    """First of the range of nodes."""
    last: int
    """Last of it."""
    max_edges: int
    """Edges that are read at a time."""
    inputs: tuple[str, ...] = field(compare=False)
    """Folders with the clusters, relative to the work folder."""

    def run(self, work: Path, folder: Path) -> dict[int, int]:
        """Write rows of the documents that go; return how many clusters there are of each size."""
        found = decide([work / name for name in self.inputs], self.first, self.last, self.max_edges)
        nodes = stretches((work / name for name in self.source.folders), NODES, 0, self.first, self.last)
        goes, rows = np.unique(found.duplicates[:, 0]), [np.empty(0, dtype=GONE_ROW)]
        for stretch in nodes:  # run by run: of a range, all documents may be more than memory holds
            piece = stretch.rows()
            rows.append(piece[_are_among(goes, piece["node"])][["upper", "node"]])
        write_array(folder / f"{GONE}-0.npy", sorted_rows(np.concatenate(rows, dtype=GONE_ROW)))
        return found.clusters


def _are_among(sorted_numbers: NDArray[np.uint64], numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which numbers are among the sorted ones. `np.isin` would sort these again for each run."""
    return np.searchsorted(sorted_numbers, numbers, "left") < np.searchsorted(sorted_numbers, numbers, "right")


def find_near_duplicates(sources: Sequence[SourceReads], runner: Runner) -> NearDuplicates:
    """What goes of each source.

    Args:
        sources: In the order of the config: what is near to a document of an earlier source goes.
        runner: Runs the tasks.
    """
    decided = {
        source.name: _of_source(source, tuple(sources[:number]), runner) for number, source in enumerate(sources)
    }
    return NearDuplicates(
        digest=_digest([done for group in decided.values() for done in group]),
        folders={name: _folders(group) for name, group in decided.items()},
        clusters=total(done.result for group in decided.values() for done in group),
    )


def _of_source(source: SourceReads, earlier: tuple[SourceReads, ...], runner: Runner) -> list[Done]:
    # by what is compared, and not by all sources: one that is appended leaves the tasks of the others as they are
    num_rows = sum(one.band_bytes for one in (*earlier, source)) // BAND_ROW.itemsize
    ranges = hash_ranges(-(-num_rows // _RANGE_ROWS) or 1)
    linked = runner.run([LinkTask(source, earlier, first, last) for first, last in ranges])
    budget = budget_for(sum(done.result for done in linked), MEMORY_BYTES)
    nodes = hash_ranges(budget.num_ranges)

    def step(star: Star, edges: list[Done]) -> tuple[list[Done], bool]:
        tasks = [StarTask(star, _digest(edges), *both, budget.max_edges, _folders(edges)) for both in nodes]
        done = runner.run(tasks)
        return done, any(one.result for one in done)

    stars = connect(linked, step)
    digest, folders = _digest(stars), _folders(stars)
    # few links make few ranges, but every document's row is looked at
    num_documents = source.node_bytes // NODE_ROW.itemsize
    ranges = hash_ranges(max(budget.num_ranges, -(-num_documents // _RANGE_NODES)))
    return runner.run([DecideTask(source, digest, *both, budget.max_edges, folders) for both in ranges])


def _folders(tasks: Sequence[Done]) -> tuple[str, ...]:
    return tuple(done.folder for done in tasks)


def _digest(tasks: Sequence[Done]) -> str:
    """Checksum over what some tasks left."""
    digest = hashlib.sha256()
    for done in tasks:
        for output in done.outputs:
            digest.update(f"{output.name}\0{output.xxh3}".encode())
        digest.update(b"\n")
    return digest.hexdigest()
