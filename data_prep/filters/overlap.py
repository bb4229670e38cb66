"""How much a text has in common with held-out documents: n-grams of words, each with the document that it is from.

What several held-out documents share (licences, cookie notices) is nobody's and counts for nothing. At most 2^23
n-grams are held: those with the lowest hashes, a fair sample that does not depend on the order in which documents, or
parts of a collection, come (Broder 1997, "On the resemblance and containment of documents"). Shares are then taken
among the n-grams that have such hashes.
"""

from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.filters.base import Dropped, Filter
from data_prep.filters.ngrams import SortedHashes, hash_ngrams, hash_words

MAX_NGRAMS = 1 << 23
"""In a collection; its file has 128 MiB."""
_BATCH = 1 << 21
_SIZE_BITS = np.uint64(32)
_SIZE = np.uint64((1 << 32) - 1)
_NOBODY = np.uint64(0)

Rows = NDArray[np.uint64]
"""Shape (2, n-grams): sorted, distinct hashes; and of each the held-out document that has it, 32 bits of its id over
the number of its n-grams, or 0 where several have it."""


class NgramCollector:
    """Collects the n-grams of held-out documents."""

    def __init__(self, ngram: int) -> None:
        """Take n-grams of so many words."""
        self._ngram = ngram
        self._rows: Rows = np.empty((2, 0), np.uint64)
        self._waiting: list[Rows] = []

    def add(self, id_: str, text: str) -> None:
        """Add a document. Its id is hexadecimal digits."""
        hashes = np.unique(hash_ngrams(hash_words(text), self._ngram))
        owner = np.uint64(int(id_[:8], 16)) << _SIZE_BITS | np.uint64(hashes.size)
        self._take(np.stack([hashes, np.full(hashes.size, owner)]))

    def extend(self, rows: Rows) -> None:
        """Add what was collected of other documents."""
        for start in range(0, rows.shape[1], _BATCH):
            self._take(rows[:, start : start + _BATCH])

    def _take(self, rows: Rows) -> None:
        self._waiting.append(rows[:, rows[0] <= _last(self._rows)])
        if sum(part.shape[1] for part in self._waiting) >= _BATCH:
            self._merge()

    def _merge(self) -> None:
        self._rows = _merged([self._rows, *self._waiting])
        self._waiting.clear()

    def rows(self) -> Rows:
        """All n-grams, or those with the lowest hashes."""
        self._merge()
        return self._rows


def _last(rows: Rows) -> np.uint64:
    """The highest hash that could be among the rows."""
    return np.uint64(rows[0, -1]) if rows.shape[1] >= MAX_NGRAMS else np.uint64((1 << 64) - 1)


def _merged(parts: Sequence[Rows]) -> Rows:
    """Of n-grams that several have, one row that is nobody's."""
    hashes = np.concatenate([part[0] for part in parts])
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    owners = np.concatenate([part[1] for part in parts])[order]
    is_first = np.ones(len(hashes), dtype=bool)
    is_first[1:] = hashes[1:] != hashes[:-1]
    owners[:-1][~is_first[1:]] = _NOBODY
    return np.stack([hashes[is_first][:MAX_NGRAMS], owners[is_first][:MAX_NGRAMS]])


class HeldOutNgrams:
    """The n-grams of held-out documents, to be looked for."""

    def __init__(self, rows: Rows) -> None:
        """Take what was collected; it may lie in a file."""
        self._hashes, self._owners, self._last = SortedHashes(rows[0]), rows[1], _last(rows)
        self._sampled = (int(self._last) + 1) / (1 << 64)

    def overlaps(self, text: str, ngram: int, max_share: float) -> bool:
        """Whether more than a share of the text's n-grams is held out, or more than that of a held-out document's is
        in the text: a text that quotes one goes, and one that is quoted by it."""
        ngrams = hash_ngrams(hash_words(text), ngram)
        owners = self._owners[np.unique(self._hashes.places(ngrams))]
        owners = owners[owners != _NOBODY]
        if not owners.size:
            return False
        if owners.size > max_share * np.unique(ngrams[ngrams <= self._last]).size:
            return True
        owners, counts = np.unique(owners, return_counts=True)
        return bool((counts > max_share * self._sampled * (owners & _SIZE)).any())


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
