"""Shingles: every run of so many words in a text, as 64-bit hashes, taken by numpy for many texts at once.

A word is a run of letters, marks and digits without regard to case; all else only separates. Where a script has no
spaces between words (Chinese, Japanese, Thai and their like), each character is a word.

A hash of a word is a polynomial of its characters modulo 2^64 (Karp and Rabin 1987), a difference of two prefix sums.
The coefficients are random numbers, one for each character, so that texts cannot collide by their looks.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

PIECE_CHARACTERS = 1 << 17
"""Longer texts are cut at multiples of this, and no word or shingle reaches over a cut."""

_BASE = 0xD1342543DE82EF95  # 5 modulo 8: its powers repeat only after 2^62
_SEPARATOR, _LETTER, _WHOLE_WORD = range(3)
_FILLER = "\0"
"""Counts as a word whose hash is 0. As many as are missing follow each text, so that short ones have a shingle too."""
_NUM_CODES = 0x110000
_NUM_LISTED = 0x20000  # code points above are rare ideographs, or nothing that is in words
_IDEOGRAPHS = slice(0x20000, 0x40000)
_UNSPACED = (
    (0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800),  # Thai and Lao, Burmese, Khmer
    (0x2E80, 0x3130), (0x3190, 0xA000), (0xF900, 0xFB00), (0xFF66, 0xFFA0),  # Chinese and Japanese
)  # fmt: skip


class Shingles(NamedTuple):
    """The shingles of some texts, those of a text side by side."""

    hashes: Hashes
    """Their hashes; a shingle that a text repeats is repeated."""
    counts: NDArray[np.int64]
    """How many each text has; 0 if it has no word."""


class _Characters(NamedTuple):
    """What is known of every code point."""

    values: Hashes
    kinds: NDArray[np.uint8]


def shingles(texts: Sequence[str], num_words: int) -> Shingles:
    """The shingles of `num_words` words of each text; a text of fewer words, if any, is one shingle.

    The same text gives the same hashes on any machine and in any company, if Python's Unicode tables
    (`unicodedata.unidata_version`) know its characters. Memory: about 16 bytes a word.
    """
    counts = np.zeros(len(texts), np.int64)
    hashes = [np.zeros(0, np.uint64)]
    for pieces, owners in _blocks(texts):
        of_block, of_pieces = _block_shingles(pieces, num_words)
        hashes.append(of_block)
        np.add.at(counts, owners, of_pieces)
    return Shingles(np.concatenate(hashes), counts)


def mix(values: Hashes) -> Hashes:
    """A one-to-one scramble of 64-bit numbers (splitmix64; Steele, Lea and Flood 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _blocks(texts: Sequence[str]) -> Iterator[tuple[list[str], list[int]]]:
    """The texts in pieces, in order, and the number of each piece's text; about PIECE_CHARACTERS at a time."""
    pieces: list[str] = []
    owners: list[int] = []
    held = 0
    for owner, text in enumerate(texts):
        for start in range(0, len(text), PIECE_CHARACTERS):
            if held + len(text) - start > PIECE_CHARACTERS and pieces:
                yield pieces, owners
                pieces, owners, held = [], [], 0
            pieces.append(text[start : start + PIECE_CHARACTERS])
            owners.append(owner)
            held += len(pieces[-1])
    if pieces:
        yield pieces, owners


def _block_shingles(pieces: Sequence[str], num_words: int) -> tuple[Hashes, NDArray[np.int64]]:
    """The shingles of some pieces and how many each has."""
    filling = f"\n{_FILLER * (num_words - 1)}\n"
    starts, words = _words(filling.join([*pieces, ""]))
    ends_of_pieces = np.cumsum([len(piece) + len(filling) for piece in pieces])
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


def _words(text: str) -> tuple[NDArray[np.int64], Hashes]:
    """Where each word of a text begins, and its hash."""
    characters, (powers, inverses) = _characters(), _powers(len(text))
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    kinds = np.zeros(len(codes) + 2, np.uint8)
    kinds[1:-1] = characters.kinds.take(codes)
    borders = np.flatnonzero((kinds[1:] != kinds[:-1]) | (kinds[1:] == _WHOLE_WORD))
    of_words = kinds[borders[:-1] + 1] != _SEPARATOR
    starts, ends = borders[:-1][of_words], borders[1:][of_words]
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.multiply(characters.values.take(codes), powers[: len(codes)], out=sums[1:])
    np.cumsum(sums, out=sums)
    return starts, (sums[ends] - sums[starts]) * inverses[starts]


@lru_cache(maxsize=1)
def _characters() -> _Characters:
    """Kind and value of every code point; lower and upper case have the same value."""
    listed = [chr(code) for code in range(_NUM_LISTED)]
    kinds = np.full(_NUM_CODES, _SEPARATOR, np.uint8)
    kinds[:_NUM_LISTED] = [unicodedata.category(character)[0] in "LMN" for character in listed]
    for first, end in _UNSPACED:
        kinds[first:end] *= _WHOLE_WORD
    kinds[_IDEOGRAPHS] = kinds[ord(_FILLER)] = _WHOLE_WORD
    lower = np.arange(_NUM_CODES, dtype=np.uint64)
    lower[:_NUM_LISTED] = [ord(character.lower()[0]) for character in listed]
    values = mix(lower)
    values[ord(_FILLER)] = 0
    return _Characters(values, kinds)


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """At least so many powers of the base modulo 2^64, and their inverses."""
    return _first_powers(1 << count.bit_length())


@lru_cache
def _first_powers(count: int) -> tuple[Hashes, Hashes]:
    both = np.ones((2, count), np.uint64)
    both[0, 1:], both[1, 1:] = _BASE, pow(_BASE, -1, 1 << 64)
    powers, inverses = np.multiply.accumulate(both, axis=1)
    return powers, inverses
