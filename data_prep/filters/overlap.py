"""How much a text has in common with held-out documents: n-grams of words, each with the document that it is from.

What several held-out documents share (licences, cookie notices) is nobody's and counts for nothing. Of very many
documents some are compared, those with the lowest ids, and of each all n-grams: so shares are exact, and whether a
quotation of a document is found does not depend on how many others there are. Which these are does not depend on the
order in which documents, or parts of a collection, come.
"""

from collections.abc import MutableMapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.filters.base import Dropped, Filter
from data_prep.filters.ngrams import SortedHashes, hash_ngrams, hash_words

MAX_NGRAMS = 1 << 23
"""In a collection, up to the end of the document that reaches it; its file has 128 MiB."""
_MIN_COMMON = 3
"""Fewer n-grams in common are chance, unless a document has no more: of one of 20 words, 0.2 would be two."""
_BATCH = 1 << 21
_SIZE_BITS = np.uint64(32)
_SIZE = np.uint64((1 << 32) - 1)
_NOBODY = np.uint64(0)
_NO_BOUND = np.uint64((1 << 64) - 1)

Rows = NDArray[np.uint64]
"""Shape (2, n-grams): hashes; and of each the held-out document that has it, 32 bits of its id over the number of its
n-grams. A collection has them by documents, each with all its n-grams."""


class NgramCollector:
    """Collects the n-grams of held-out documents."""

    def __init__(self, ngram: int) -> None:
        """Take n-grams of so many words."""
        self.num_documents = 0
        """How many were added that have an n-gram."""
        self._ngram = ngram
        self._rows: Rows = np.empty((2, 0), np.uint64)
        self._bound = _NO_BOUND
        self._waiting: list[Rows] = []

    def add(self, id_: str, text: str) -> None:
        """Add a document. Its id is hexadecimal digits."""
        hashes = np.unique(hash_ngrams(hash_words(text), self._ngram))
        self.num_documents += bool(hashes.size)
        owner = np.uint64(int(id_[:8], 16)) << _SIZE_BITS | np.uint64(hashes.size)
        self._take(np.stack([hashes, np.full(hashes.size, owner)]))

    def extend(self, rows: Rows) -> None:
        """Add another collection."""
        for start in range(0, rows.shape[1], _BATCH):
            self._take(rows[:, start : start + _BATCH])

    def _take(self, rows: Rows) -> None:
        self._waiting.append(rows[:, rows[1] <= self._bound])
        if sum(part.shape[1] for part in self._waiting) >= _BATCH:
            self._merge()

    def _merge(self) -> None:
        rows = np.concatenate([self._rows, *self._waiting], axis=1)
        self._waiting.clear()
        rows = rows[:, np.argsort(rows[1], kind="stable")]
        if rows.shape[1] >= MAX_NGRAMS:
            self._bound = rows[1, MAX_NGRAMS - 1]
        self._rows = rows[:, : np.searchsorted(rows[1], self._bound, side="right")]

    def rows(self) -> Rows:
        """The n-grams of all documents, or of those with the lowest ids."""
        self._merge()
        return self._rows


def count_documents(rows: Rows) -> int:
    """Of how many documents a collection holds n-grams."""
    return int(np.unique(rows[1]).size)


def by_hash(rows: Rows) -> Rows:
    """A collection in the order of the hashes, each once; of those that several documents have, the owner is 0."""
    rows = rows[:, np.argsort(rows[0], kind="stable")]
    is_first = np.ones(rows.shape[1], dtype=bool)
    is_first[1:] = rows[0, 1:] != rows[0, :-1]
    rows[1, :-1][~is_first[1:]] = _NOBODY
    return rows[:, is_first]


class HeldOutNgrams:
    """The n-grams of held-out documents, to be looked for."""

    def __init__(self, rows: Rows) -> None:
        """Take a collection `by_hash`; it may lie in a file."""
        self._hashes, self._owners = SortedHashes(rows[0]), rows[1]

    def overlaps(self, text: str, ngram: int, max_share: float) -> bool:
        """Whether more than a share of the text's n-grams is held out, or more than that of a held-out document's is
        in the text: a text that quotes one goes, and one that is quoted by it."""
        ngrams = hash_ngrams(hash_words(text), ngram)
        owners = self._owners[np.unique(self._hashes.places(ngrams))]
        owners = owners[owners != _NOBODY]
        if not owners.size:
            return False
        if _is_much(owners.size, np.unique(ngrams).size, max_share):
            return True
        owners, counts = np.unique(owners, return_counts=True)
        return bool(_is_much(counts, owners & _SIZE, max_share).any())


def _is_much(common: Any, of: Any, max_share: float) -> Any:
    """Whether so many n-grams in common are too many for a document that has `of` in all; numbers or arrays."""
    return (common > max_share * of) & (common >= np.minimum(of, _MIN_COMMON))


def build(path: Path, ngram: int, max_share: float) -> Filter:
    """Drops texts that overlap with the held-out documents whose n-grams were written to `path`."""
    held_out = _load(path)

    def judge(text: str, metadata: MutableMapping[str, str]) -> str | Dropped:
        return Dropped("contaminated") if held_out.overlaps(text, ngram, max_share) else text

    return judge


@lru_cache(maxsize=1)
def _load(path: Path) -> HeldOutNgrams:
    """The table for the last set that was used: a worker reads many parts of one source."""
    return HeldOutNgrams(np.load(path, mmap_mode="r", allow_pickle=False))
