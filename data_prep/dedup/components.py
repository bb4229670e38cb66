"""Clusters of near-duplicates and what goes of them, range of nodes by range of nodes, in bounded memory.

Nodes are hashes, so equal ranges of them hold about equally many. A few nodes may have more edges than memory holds;
those of one node are therefore never asked for at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.edges import Edges, EdgeWriter, both_ways, read_edges, sorted_edges
from data_prep.dedup.links import EARLIER
from data_prep.dedup.stars import Star, large_star, lowest_neighbours, small_star

_EDGE_BYTES = 160
"""Memory for each edge that is held; benchmarks/components.py measures about 130."""

Folders = TypeVar("Folders")


@dataclass(frozen=True)
class Budget:
    """How a graph is divided. Results do not depend on it."""

    num_ranges: int
    """Ranges of nodes."""
    max_edges: int
    """Edges that are held at a time."""


def budget_for(num_edges: int, memory_bytes: int) -> Budget:
    """So many ranges that the edges of one, both ways, fit into the memory of a task."""
    max_edges = max(memory_bytes // _EDGE_BYTES, 1)
    return Budget(max(-(-2 * num_edges // max_edges), 1), max_edges)


def move_edges(star: Star, inputs: Sequence[Path], first: int, last: int, output: Path, max_edges: int) -> bool:
    """Move the edges at the nodes in [first, last]; say whether any moved.

    Args:
        star: `small` takes edges (node, lower node) and leaves the moved ones both ways; `large` takes edges both ways
            and leaves (node, lower node).
        inputs: Folders with the edges, of all ranges.
        first: First of the range of nodes.
        last: Last of it.
        output: Folder for the moved edges, this range's alone.
        max_edges: Edges that are held at a time.
    """
    read = partial(read_edges, inputs, first, last, max(max_edges // 8, 1))
    neighbours = lowest_neighbours(read())
    move = small_star if star == "small" else large_star
    any_moved = False
    with EdgeWriter(output, max_edges) as writer:
        if star == "small":
            writer.add(both_ways(neighbours.edges))
        for piece in read():
            edges, moved = move(piece, neighbours)
            writer.add(edges)
            any_moved |= moved
    return any_moved


def connect(edges: Folders, step: Callable[[Star, Folders], tuple[Folders, bool]]) -> Folders:
    """Take steps until each component is a star around its lowest node, and return these stars, edges both ways.

    Args:
        edges: Where edges (node, lower node) are.
        step: `move_edges` over all ranges: from a star's name and where its edges are to where the moved ones are,
            and whether any moved.
    """
    while True:
        stars, small_moved = step("small", edges)
        edges, large_moved = step("large", stars)
        if not small_moved and not large_moved:
            return stars


@dataclass(frozen=True)
class Decision:
    """What of one source goes, in one range of nodes."""

    duplicates: Edges
    """(node that goes, node that stays in its place, or `EARLIER`), sorted."""
    clusters: dict[int, int]
    """Documents in a cluster -> clusters of that size whose lowest node is in the range; without those of which all
    documents go because one is linked to an earlier source."""


def decide(stars: Sequence[Path], first: int, last: int, max_edges: int) -> Decision:
    """What goes of the nodes in [first, last]: in each component all but the lowest node.

    Args:
        stars: Folders with what `connect` leaves, of all ranges.
        first: First of the range of nodes.
        last: Last of it.
        max_edges: Edges that are read at a time.
    """
    duplicates = [np.zeros((0, 2), np.uint64)]
    tallies = [np.zeros((0, 2), np.uint64)]
    for piece in read_edges(stars, first, last, max_edges):
        goes = piece[:, 1] < piece[:, 0]
        duplicates.append(piece[goes])
        tallies.append(np.stack(np.unique_counts(piece[~goes, 0]), axis=1, dtype=np.uint64, casting="unsafe"))
    return Decision(sorted_edges(np.concatenate(duplicates)), _cluster_sizes(np.concatenate(tallies)))


def _cluster_sizes(tallies: NDArray[np.uint64]) -> dict[int, int]:
    """Sizes of the stars around some nodes, from rows (node, some of its neighbours)."""
    centres, place = np.unique(tallies[:, 0], return_inverse=True)
    sizes = np.ones(len(centres), np.int64)
    np.add.at(sizes, place, tallies[:, 1].astype(np.int64))
    return dict(zip(*(column.tolist() for column in np.unique_counts(sizes[centres != EARLIER])), strict=True))
