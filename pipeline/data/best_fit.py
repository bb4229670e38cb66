"""Best-fit-decreasing bin packing: documents into sequences without cutting them (Ding et al. 2024, 2404.10830)."""

import numpy as np
from numpy.typing import NDArray


def best_fit(lengths: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """The bin of each item: longest first, each into the bin with the least space that holds it, or into a new one.

    A set of integers tells which amounts of space some bin has, so that the least that is enough is one shift away.

    Args:
        lengths: Of the items, each from 1 to `capacity`. Of equal ones, the earlier is packed first.
        capacity: Of a bin.
    """
    bins = np.empty(len(lengths), dtype=np.int64)
    by_space: list[list[int]] = [[] for _ in range(capacity + 1)]
    spaces = num_bins = 0  # bit s of `spaces`: some bin has space s
    order = np.argsort(-lengths, kind="stable")
    for item, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        enough = spaces >> length
        if enough:
            space = length + (enough & -enough).bit_length() - 1
            chosen = by_space[space].pop()
            if not by_space[space]:
                spaces ^= 1 << space
        else:
            space, chosen = capacity, num_bins
            num_bins += 1
        left = space - length
        by_space[left].append(chosen)
        spaces |= 1 << left if left else 0
        bins[item] = chosen
    return bins
