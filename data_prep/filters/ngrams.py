"""Hashes of n-grams of words, and which of a text's are in a set.

Everything is done on arrays, because texts have a million of words per 5 MB: n-grams are hashed by Horner's rule over
the words' hashes, and a table of bits answers for nearly all of them before the sorted hashes are searched. Hashes have
64 bits: among 10^8 stored ones a text of 10^5 words meets a false one with a chance of 5 in 10^7.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data_prep.documents.words import Hashes, find_words, mix, pieces

_ROLL = np.uint64(0xD6E8FEB86659FD93)
_MIN_TABLE_BITS, _MAX_TABLE_BITS = 16, 29
_SPARSENESS_BITS = 4
"""The table has at least 2^4 bits for each hash, as long as it is smaller than 2^29 bits (64 MiB)."""


class SortedHashes:
    """Sorted, distinct hashes, and a table of bits that answers for nearly all that are not among them."""

    def __init__(self, hashes: Hashes) -> None:
        """Take hashes, which may lie in a file: few of them are looked at."""
        self.hashes = hashes

    def places(self, hashes: Hashes) -> NDArray[np.int64]:
        """Where those of some hashes are that are among these."""
        table, shift = self._table
        octets, flags = _places(hashes, shift)
        maybe = np.sort(hashes[table[octets] & flags != 0])  # neighbours are searched for in the same cache lines
        places = np.minimum(np.searchsorted(self.hashes, maybe), max(0, self.hashes.size - 1))
        return places[self.hashes[places] == maybe] if maybe.size else places

    @cached_property
    def _table(self) -> tuple[NDArray[np.uint8], np.uint64]:
        """A bit for each value of a hash's upper bits, set where there is one; and by how much to shift a hash."""
        num_bits = min(max(len(self.hashes).bit_length() + _SPARSENESS_BITS, _MIN_TABLE_BITS), _MAX_TABLE_BITS)
        shift = np.uint64(64 - num_bits)
        table = np.zeros(1 << (num_bits - 3), np.uint8)
        np.bitwise_or.at(table, *_places(self.hashes, shift))
        return table, shift


class NgramSet:
    """Hashes of n-grams; texts that were shorter than n words are in it whole."""

    def __init__(self, hashes: Hashes, lengths: Sequence[int]) -> None:
        """Take sorted, distinct hashes, and the lengths in words of what they stand for."""
        self.hashes, self.lengths = hashes, frozenset(lengths)
        self._sorted = SortedHashes(hashes)

    @classmethod
    def from_texts(cls, texts: Iterable[str], n: int, min_words: int) -> "NgramSet":
        """Every n-gram of some texts; of a text of fewer than n but at least `min_words` words, all its words."""
        found, lengths = [np.empty(0, np.uint64)], set[int]()
        for text in texts:
            words = hash_words(text)
            if words.size >= max(1, min_words):
                length = min(n, words.size)
                lengths.add(length)
                found.append(hash_ngrams(words, length))
        return cls(np.unique(np.concatenate(found)), sorted(lengths))

    def matches(self, text: str) -> bool:
        """Whether the text has one of the n-grams."""
        if not self.lengths:
            return False
        return any(
            length in self.lengths and self._sorted.places(ngrams).size > 0
            for length, ngrams in _roll(hash_words(text), max(self.lengths))
        )


def hash_words(text: str) -> Hashes:
    """A hash of each word, in their order; of words that NFKC makes equal, too."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return mix(np.concatenate([np.empty(0, np.uint64), *(find_words(piece).hashes for piece in pieces(text))]))


def _places(hashes: Hashes, shift: np.uint64) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The byte of the table that each hash is in, and its bit there."""
    bits = (hashes >> shift).view(np.int64)
    return bits >> 3, np.uint8(1) << (bits & 7).astype(np.uint8)


def _roll(words: Hashes, max_length: int) -> Iterator[tuple[int, Hashes]]:
    """For each length up to `max_length`, the hashes of the n-grams that begin at each word."""
    ngrams = words
    for length in range(1, min(max_length, words.size) + 1):
        if length > 1:
            ngrams = ngrams[:-1] * _ROLL + words[length - 1 :]
        yield length, ngrams


def hash_ngrams(words: Hashes, length: int) -> Hashes:
    """The hashes of all n-grams of one length, from hashes of their words."""
    return next((ngrams for found, ngrams in _roll(words, length) if found == length), words[:0])
