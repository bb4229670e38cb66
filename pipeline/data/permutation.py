"""Keyed permutations of [0, size) that cost nothing to set up: a Feistel network with cycle-walking.

Sources: Luby and Rackoff 1988 (Feistel networks are permutations); Black and Rogaway 2002 (cycle-walking).
The round function is SplitMix64's finaliser (Steele et al. 2014). Only integer arithmetic modulo 2^64,
so that values are the same on every machine and for every version of NumPy.
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.runtime.seeds import derive_seed

_ROUNDS = 8
_MIN_HALF_BITS = 4  # smaller networks shuffle badly; cycle-walking makes up for the larger domain
_MAX_TABLE_HALF_BITS = 6
_MAX_TABLE_SIZE = 1 << 18  # up to so many values the images of all are kept: a look-up costs less than the network
_CALLS_BEFORE_TABLE = 8  # and the table as much as some look-ups without it: a start makes few in each of many shards


def mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: numbers that look random, each from one number."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class Permutation:
    """A permutation of [0, size) chosen by a key."""

    def __init__(self, size: int, *key: int | str) -> None:
        """Set up the permutation. `size` is at least 1 and at most 2^62."""
        if not 1 <= size <= 2**62:
            raise ValueError(f"size ({size}) must be in [1, 2**62]")
        self.size = size
        self._half_bits = max(_MIN_HALF_BITS, ((size - 1).bit_length() + 1) // 2)
        self._round_keys = [np.uint64(derive_seed(round_number, *key)) for round_number in range(_ROUNDS)]
        self._num_calls = 0

    def __call__(self, index: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Images of some indices, uint64 of any shape, each below `size`."""
        self._num_calls += 1
        if self.size > _MAX_TABLE_SIZE or (self._num_calls <= _CALLS_BEFORE_TABLE and index.size < self.size >> 4):
            return self._walk(index, self._network)
        return self._table[index]

    def inverse(self, image: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Which indices have some images, each below `size`: the network run backwards, walked backwards."""
        if self._half_bits <= _MAX_TABLE_HALF_BITS:
            return self._indices[image]
        index = self._network_back(image)
        while (outside := np.flatnonzero(index >= self.size)).size:
            index[outside] = self._network_back(index[outside])
        return index

    @cached_property
    def _indices(self) -> NDArray[np.uint64]:
        """Of all images: small permutations walk far backwards, too."""
        return np.argsort(self._table).astype(np.uint64)

    @cached_property
    def _table(self) -> NDArray[np.uint64]:
        step = self._images.__getitem__ if self._half_bits <= _MAX_TABLE_HALF_BITS else self._network
        return self._walk(np.arange(self.size, dtype=np.uint64), step)

    def _walk(
        self, index: NDArray[np.uint64], step: Callable[[NDArray[np.uint64]], NDArray[np.uint64]]
    ) -> NDArray[np.uint64]:
        image = step(index)
        while (outside := np.flatnonzero(image >= self.size)).size:
            image[outside] = step(image[outside])
        return image

    @cached_property
    def _images(self) -> NDArray[np.uint64]:
        """Of the network's whole domain: small permutations walk far in it, step by step."""
        return self._network(np.arange(1 << (2 * self._half_bits), dtype=np.uint64))

    def _network(self, value: NDArray[np.uint64]) -> NDArray[np.uint64]:
        bits = np.uint64(self._half_bits)
        mask = np.uint64((1 << self._half_bits) - 1)
        left, right = value >> bits, value & mask
        for key in self._round_keys:
            left, right = right, left ^ (mix(right + key) & mask)
        return (left << bits) | right

    def _network_back(self, value: NDArray[np.uint64]) -> NDArray[np.uint64]:
        bits = np.uint64(self._half_bits)
        mask = np.uint64((1 << self._half_bits) - 1)
        left, right = value >> bits, value & mask
        for key in reversed(self._round_keys):
            left, right = right ^ (mix(left + key) & mask), left
        return (left << bits) | right


def permutation(size: int, *key: int | str) -> NDArray[np.uint64]:
    """The whole permutation of [0, size) as an array."""
    return Permutation(size, *key)(np.arange(size, dtype=np.uint64))
