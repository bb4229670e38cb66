"""Connected components of a graph too large for memory, by alternating stars.

Kiveris et al. 2014, Connected Components in MapReduce and Beyond: at every node, edges are moved towards its lowest
neighbour, which keeps the components as they are. A large star moves the edges to higher neighbours, a small star
those to lower ones. When nothing moves any more, every component is a star around its lowest node. Edges never get
more, and a path of n nodes takes about log2(n) rounds, whatever the order of its nodes.

A node's edges may be more than memory holds, so they come in pieces, and twice: once for the lowest neighbour, once to
be moved.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.edges import Edges, both_ways, first_of_equals

Star = Literal["small", "large"]


class Neighbours(NamedTuple):
    """The lowest neighbour of some nodes."""

    nodes: NDArray[np.uint64]
    """The nodes, sorted."""
    lowest: NDArray[np.uint64]
    """The lowest neighbour of each; it may be higher than the node."""

    @property
    def edges(self) -> Edges:
        """An edge from each node to its lowest neighbour."""
        return np.stack([self.nodes, self.lowest], axis=1)

    def lowest_of(self, nodes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The lowest neighbours of nodes that must be among these."""
        return self.lowest[np.searchsorted(self.nodes, nodes)]


def lowest_neighbours(pieces: Iterable[Edges]) -> Neighbours:
    """The lowest neighbour of each first node of some edges, each piece of which is sorted."""
    heads = [piece[first_of_equals(piece[:, 0])] for piece in pieces]
    if not heads:
        return Neighbours(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
    edges = np.concatenate(heads)
    edges = edges[np.argsort(edges[:, 0])]
    firsts = first_of_equals(edges[:, 0])
    return Neighbours(edges[firsts, 0], np.minimum.reduceat(edges[:, 1], firsts))


def small_star(edges: Edges, neighbours: Neighbours) -> tuple[Edges, bool]:
    """Move the edges of nodes to their lower neighbours to the lowest of these; say whether any moved.

    Takes edges (node, lower node) and returns those that moved, both ways. A node's edge to its lowest neighbour does
    not: it is among `neighbours.edges`, and there only once. So once nothing moves, no edge comes twice.
    """
    lowest = neighbours.lowest_of(edges[:, 0])
    moves = edges[:, 1] != lowest
    return both_ways(np.stack([edges[moves, 1], lowest[moves]], axis=1)), bool(moves.any())


def large_star(edges: Edges, neighbours: Neighbours) -> tuple[Edges, bool]:
    """Move the edges of nodes to their higher neighbours to the lowest neighbour; say whether any moved.

    Takes edges both ways, and returns edges (node, lower node), those that stay where they are among them.
    """
    edges = edges[edges[:, 1] > edges[:, 0]]
    lowest = np.minimum(neighbours.lowest_of(edges[:, 0]), edges[:, 0])
    return np.stack([edges[:, 1], lowest], axis=1), bool((lowest != edges[:, 0]).any())
