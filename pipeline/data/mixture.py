"""Which source each sample comes from: exact integer shares, spread evenly, in a keyed order within each block.

How many of the first n samples come from each source is a pure function of n. A binary tree over the sources
hands n samples down: of the n that reach a node, floor(n * left / total) go left and the rest go right. Both
counts never fall as n grows, so each source's count never falls either, and together they are always n; each
differs from its exact share by less than the depth of the tree.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipeline.data.permutation import permutation

WEIGHT_TOTAL = 2**32
BLOCK_SAMPLES = 1024


def source_names(keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A name for each (corpus, source): the source's own; where several corpora have one, the later get a number."""
    names: dict[tuple[str, str], str] = {}
    for key in keys:
        if key not in names:
            namesakes = sum(source == key[1] for _, source in names)
            names[key] = f"{key[1]}#{namesakes}" if namesakes else key[1]
    return names


def integer_weights(weights: Sequence[float]) -> tuple[int, ...]:
    """Non-negative weights as integers that sum to 2^32, by largest remainders; a weight above 0 stays above 0."""
    total = sum(Fraction(weight) for weight in weights)
    exact = [Fraction(weight) / total * WEIGHT_TOTAL for weight in weights]
    floors = [max(int(share), int(share > 0)) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: (floors[index] - exact[index], index))
    for index in by_remainder[: max(0, WEIGHT_TOTAL - sum(floors))]:
        floors[index] += 1
    floors[int(np.argmax(floors))] -= sum(floors) - WEIGHT_TOTAL  # what tiny weights were lifted by
    return tuple(floors)


def counts(weights: Sequence[int], num_samples: int) -> list[int]:
    """How many of the first `num_samples` samples come from each source."""
    if len(weights) == 1:
        return [num_samples]
    half = len(weights) // 2
    left, total = sum(weights[:half]), sum(weights)
    num_left = num_samples * left // total if total else 0
    return counts(weights[:half], num_left) + counts(weights[half:], num_samples - num_left)


class Mixture:
    """The sequence of sources of one phase, counted from its first sample."""

    def __init__(self, weights: Sequence[int], *key: int | str) -> None:
        """Take integer weights, one per source and not all 0, and the key of the order within blocks."""
        self.weights = tuple(weights)
        self._key = key
        self._block: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None

    def counts(self, num_samples: int) -> list[int]:
        """How many of the first `num_samples` samples come from each source."""
        block, rest = divmod(num_samples, BLOCK_SAMPLES)
        result = counts(self.weights, block * BLOCK_SAMPLES)
        if rest:
            sources, _ = self._assign_block(block)
            within = np.bincount(sources[:rest], minlength=len(self.weights))
            result = [before + int(now) for before, now in zip(result, within, strict=True)]
        return result

    def assign(self, first: int, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of samples [first, first + number): the source of each, and its index among that source's samples."""
        sources, indices = [], []
        while number > 0:
            block, offset = divmod(first, BLOCK_SAMPLES)
            taken = min(number, BLOCK_SAMPLES - offset)
            block_sources, block_indices = self._assign_block(block)
            sources.append(block_sources[offset : offset + taken])
            indices.append(block_indices[offset : offset + taken])
            first, number = first + taken, number - taken
        return np.concatenate(sources), np.concatenate(indices)

    def sample(self, source: int, index: int) -> int:
        """Which sample is a source's `index`-th: the inverse of `assign`. The source's weight is above 0."""

        def behind(block: int) -> int:
            return counts(self.weights, (block + 1) * BLOCK_SAMPLES)[source]

        most = (index + 1 + len(self.weights)) * sum(self.weights) // self.weights[source]
        block = bisect_right(range(most // BLOCK_SAMPLES + 1), index, key=behind)
        sources, indices = self._assign_block(block)
        return block * BLOCK_SAMPLES + int(np.flatnonzero((sources == source) & (indices == index))[0])

    def _assign_block(self, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self._block is None or self._block[0] != block:
            before = counts(self.weights, block * BLOCK_SAMPLES)
            after = counts(self.weights, (block + 1) * BLOCK_SAMPLES)
            quotas = [late - early for early, late in zip(before, after, strict=True)]
            ordered = np.repeat(np.arange(len(quotas)), quotas)
            sources = ordered[permutation(BLOCK_SAMPLES, *self._key, block)]
            indices = np.empty(BLOCK_SAMPLES, dtype=np.int64)
            for source, start in enumerate(before):
                chosen = sources == source
                indices[chosen] = start + np.arange(int(chosen.sum()))
            self._block = (block, sources, indices)
        return self._block[1], self._block[2]
