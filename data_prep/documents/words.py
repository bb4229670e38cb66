"""Words of a text as 64-bit hashes, taken by numpy for many words at once: for near-duplicates and decontamination.

A word is a run of letters, marks and digits without regard to case; all else only separates. Where a script has no
spaces between words (Chinese, Japanese, Thai and their like), each character is a word.

A hash of a word is a polynomial of its characters modulo 2^64 (Karp and Rabin 1987), a difference of two prefix sums.
The coefficients are random numbers, one for each character, so that texts cannot collide by their looks.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

PIECE_CHARACTERS = 1 << 17
"""Longer texts are cut into pieces of at most so many characters."""
FILLER = "\U0010ffff"
"""No character, but counts as a letter that adds nothing: the hash of a word of it is 0."""

_BASE = 0xD1342543DE82EF95  # 5 modulo 8: its powers repeat only after 2^62
_SEPARATOR, _LETTER, _WHOLE_WORD = range(3)
_NUM_CODES = 0x110000
_NUM_LISTED = 0x20000  # code points above are rare ideographs, or nothing that is in words
_IDEOGRAPHS = slice(0x20000, 0x40000)
_UNSPACED = (
    (0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800),  # Thai and Lao, Burmese, Khmer
    (0x2E80, 0x3130), (0x3190, 0xA000), (0xF900, 0xFB00), (0xFF66, 0xFFA0),  # Chinese and Japanese
)  # fmt: skip


class Words(NamedTuple):
    """The words of a text, in their order."""

    starts: NDArray[np.int64]
    """Where each begins."""
    hashes: Hashes
    """The hash of each."""


class _Characters(NamedTuple):
    """What is known of every code point."""

    values: Hashes
    kinds: NDArray[np.uint8]


def find_words(text: str) -> Words:
    """The words of a text of at most PIECE_CHARACTERS, or little more. Memory: about 30 bytes a character.

    The same word has the same hash in any text and on any machine, if Python's Unicode tables
    (`unicodedata.unidata_version`) know its characters.
    """
    characters, (powers, inverses) = _characters(), _powers(len(text))
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    starts, ends = _borders(characters.kinds.take(codes))
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.multiply(characters.values.take(codes), powers[: len(codes)], out=sums[1:])
    np.cumsum(sums, out=sums)
    return Words(starts, (sums.take(ends) - sums.take(starts)) * inverses.take(starts))


def _borders(kinds: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where words begin and end, from the kinds of the characters."""
    padded = np.zeros(len(kinds) + 2, np.uint8)
    padded[1:-1] = kinds
    differ = padded[1:] != padded[:-1]
    if not (kinds == _WHOLE_WORD).any():  # words and what separates them take turns
        borders = np.flatnonzero(differ)
        return borders[::2], borders[1::2]
    borders = np.flatnonzero(differ | (padded[1:] == _WHOLE_WORD))
    of_words = padded[borders[:-1] + 1] != _SEPARATOR
    return borders[:-1][of_words], borders[1:][of_words]


def pieces(text: str) -> Iterator[str]:
    """A text in pieces of at most PIECE_CHARACTERS; only a word that is longer is cut."""
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        end = start + PIECE_CHARACTERS
        end = max(text.rfind(" ", start, end), text.rfind("\n", start, end)) + 1 or end
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def mix(values: Hashes) -> Hashes:
    """A one-to-one scramble of 64-bit numbers (splitmix64; Steele, Lea and Flood 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


@lru_cache(maxsize=1)
def _characters() -> _Characters:
    """Kind and value of every code point; lower and upper case have the same value."""
    listed = [chr(code) for code in range(_NUM_LISTED)]
    kinds = np.full(_NUM_CODES, _SEPARATOR, np.uint8)
    kinds[:_NUM_LISTED] = [unicodedata.category(character)[0] in "LMN" for character in listed]
    for first, end in _UNSPACED:
        kinds[first:end] *= _WHOLE_WORD
    kinds[_IDEOGRAPHS] = _WHOLE_WORD
    lower = np.arange(_NUM_CODES, dtype=np.uint64)
    lower[:_NUM_LISTED] = [ord(character.lower()[0]) for character in listed]
    values = mix(lower)
    kinds[ord(FILLER)], values[ord(FILLER)] = _LETTER, 0
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
