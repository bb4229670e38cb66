"""Links between near-duplicates: edges of a graph whose components are the clusters of which one document stays.

A document is known by its node, the upper 64 bits of its id. That two of 10^9 documents share one has a probability of
3 in 100; those two then go or stay together.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.dedup.edges import Edges
from data_prep.dedup.ordered import Stretch, in_order, with_firsts

EARLIER = np.uint64(0)
"""The node that stands for all documents of earlier sources. Being the lowest, it stays, and what is linked to it goes.

So what a source keeps depends on itself and earlier ones: appending one changes nothing of what was kept before.
"""


def links(earlier: Sequence[Stretch], own: Sequence[Stretch]) -> Iterator[Edges]:
    """The edges of one source's documents that share band hashes, some at a time.

    Args:
        earlier: Rows (`BAND_ROW`) of earlier sources' documents, numbered 0.
        own: Rows of the source, numbered 1.

    Yields:
        Edges (node, lower node), in no order: from the nodes with a hash to the lowest of them, or to `EARLIER`.
    """
    lowest = EARLIER
    for rows, is_first in with_firsts(in_order([*earlier, *own], ("hash", "source", "node")), ("hash",)):
        is_own = rows["source"] == 1
        # a hash's first row is of an earlier source if there is one, else that of the lowest node
        stays = np.where(is_own, rows["node"], EARLIER)[is_first]
        targets = np.concatenate([[lowest], stays])[np.cumsum(is_first)]
        lowest = targets[-1]
        linked = is_own & (rows["node"] != targets)
        yield np.stack([rows["node"][linked], targets[linked]], axis=1)
