"""Shingles: every run of so many words in a text, as 64-bit hashes, taken by numpy for many texts at once.

Texts are cut into pieces (`data_prep/documents/words.py`), and no shingle reaches over a cut.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.documents.words import FILLER, PIECE_CHARACTERS, Hashes, find_words, mix, pieces


class Shingles(NamedTuple):
    """The shingles of some texts, those of a text side by side."""

    hashes: Hashes
    """Their hashes; a shingle that a text repeats is repeated."""
    counts: NDArray[np.int64]
    """How many each text has; 0 if it has no word."""


def shingles(texts: Sequence[str], num_words: int) -> Shingles:
    """The shingles of `num_words` words of each text; a text of fewer words, if any, is one shingle.

    The same text gives the same hashes on any machine and in any company, if Python's Unicode tables
    (`unicodedata.unidata_version`) know its characters. Memory: about 16 bytes a word.
    """
    counts = np.zeros(len(texts), np.int64)
    hashes = [np.zeros(0, np.uint64)]
    for block, owners in _blocks(texts):
        of_block, of_pieces = _block_shingles(block, num_words)
        hashes.append(of_block)
        np.add.at(counts, owners, of_pieces)
    return Shingles(np.concatenate(hashes), counts)


def _blocks(texts: Sequence[str]) -> Iterator[tuple[list[str], list[int]]]:
    """The texts in pieces, in order, and the number of each piece's text; about PIECE_CHARACTERS at a time."""
    block: list[str] = []
    owners: list[int] = []
    held = 0
    for owner, text in enumerate(texts):
        for piece in pieces(text):
            if held + len(piece) > PIECE_CHARACTERS and block:
                yield block, owners
                block, owners, held = [], [], 0
            block.append(piece)
            owners.append(owner)
            held += len(piece)
    if block:
        yield block, owners


def _block_shingles(block: Sequence[str], num_words: int) -> tuple[Hashes, NDArray[np.int64]]:
    """The shingles of some pieces and how many each has."""
    # as many words as are missing follow each piece, so that short ones have a shingle too
    filling = "\n" + f"{FILLER}\n" * (num_words - 1)
    starts, words = find_words(filling.join([*block, ""]))
    ends_of_pieces = np.cumsum([len(piece) + len(filling) for piece in block])
    words_of_pieces = np.diff(np.searchsorted(starts, ends_of_pieces), prepend=0)
    firsts = np.cumsum(words_of_pieces) - words_of_pieces
    own_words = words_of_pieces - (num_words - 1)
    counts = np.where(own_words > 0, np.maximum(own_words - (num_words - 1), 1), 0)
    return _combine(words, num_words)[_ranges(firsts, counts)], counts


def _ranges(firsts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranges of so many numbers from each of the first ones, one after the other."""
    return np.repeat(firsts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


def _combine(words: Hashes, num_words: int) -> Hashes:
    """A hash of each run of so many words."""
    num_runs = len(words) - num_words + 1
    weights = mix(np.arange(num_words, dtype=np.uint64)) | np.uint64(1)
    total = words[:num_runs] * weights[0]
    for number in range(1, num_words):
        total += words[number : number + num_runs] * weights[number]
    return mix(total)
