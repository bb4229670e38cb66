"""Links between near-duplicates: edges of a graph whose components are the clusters of which one document stays.

A document is known by its node, the upper 64 bits of its id. That two of 10^9 documents share one has a probability of
3 in 100; those two then go or stay together.
"""

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.edges import Edges, first_of_equals, sorted_edges
from data_prep.dedup.shingles import Hashes
from data_prep.documents.rows import BAND_ROW

EARLIER = np.uint64(0)
"""The node that stands for all documents of earlier sources. Being the lowest, it stays, and what is linked to it goes.

So what a source keeps depends on itself and earlier ones: appending one changes nothing of what was kept before.
"""


def links(rows: NDArray[np.void], earlier: Hashes) -> Edges:
    """The edges of one source's documents that share band hashes.

    Args:
        rows: Rows (`BAND_ROW`) of the source, in any order: of each hash that is among them, all there are.
        earlier: The hashes that documents of earlier sources have, in any order; more do no harm.

    Returns:
        Edges (node, lower node), sorted, each once: from the nodes with a hash to the lowest of them, or to `EARLIER`.
    """
    assert rows.dtype == BAND_ROW
    order = np.argsort(rows["hash"])
    hashes, nodes = rows["hash"][order], rows["node"][order]
    firsts = first_of_equals(hashes)
    lowest = np.minimum.reduceat(nodes, firsts)
    lowest[np.isin(hashes[firsts], earlier)] = EARLIER
    lowest = np.repeat(lowest, np.diff(firsts, append=len(hashes)))
    linked = nodes != lowest
    return sorted_edges(np.stack([nodes[linked], lowest[linked]], axis=1))
