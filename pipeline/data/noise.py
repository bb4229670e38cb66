"""The noise of masked language modelling: which tokens are to be predicted, and what is read in their place.

It is a function of (seed, sample number, column) alone, so ranks, micro batches and restarts change nothing. Only
integer arithmetic modulo 2^64, so that it is the same on every machine. Legend: R = rows, L = their length.

Position i of a shard reads token i and here predicts the same token. A shard's last token is read by none: it closes
a document, and such tokens are never predicted.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.batch import IGNORED, Rows
from pipeline.data.permutation import mix
from pipeline.runtime.seeds import derive_seed

PADDING = -1
"""What rows hold where there is no text, until noise is put into them: a padding token may be one that ends texts."""
_MASKED, _REPLACED = 8, 1
"""Of ten chosen tokens, on average, become the mask token, and another one; the rest stays."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's increment
_LAST = np.uint64(2**64 - 1)

Tokens = NDArray[np.int64]
Mask = NDArray[np.bool_]


def most_chosen(share: float, num_tokens: int) -> int:
    """How many tokens are chosen of so many: the share, rounded, but at least one; an upper bound with whole words."""
    return int(_budget(share, np.array([num_tokens]))[0])


class Words(NamedTuple):
    """How tokens become words, which are chosen as a whole."""

    begins: Mask
    """Which ids begin one, shape (vocab_size,)."""
    ends: Mask
    """Behind which ids the next one begins."""


@dataclass(frozen=True)
class Noise:
    """Noise for the rows of batches."""

    seed: int
    """Everything else being equal, another seed gives other noise."""
    share: float
    """Share of the tokens of a row that is chosen, in [0, 1]."""
    mask_id: int
    """The token that stands for a hidden one."""
    pad_id: int
    """The token that is read where there is no text."""
    is_ordinary: Mask
    """Which ids may be chosen, and be read in place of others: shape (vocab_size,)."""
    words: Words | None = None
    """None: each token is chosen by itself."""

    def put_into(self, rows: Rows, numbers: NDArray[np.int64]) -> None:
        """Choose tokens of rows whose padding is PADDING, make them their labels, and hide them.

        What is padding becomes a piece of its own, which no text sees.

        Args:
            rows: R rows that are filled in.
            numbers: Sample number of each, shape (R,).
        """
        tokens = rows.inputs.copy()
        is_padding = tokens == PADDING
        rows.keep_apart(is_padding)
        columns = np.arange(tokens.shape[1], dtype=np.uint64)
        rows_key = numbers.astype(np.uint64)[:, None]
        chosen = self._choose(tokens, rows.positions, rows_key)
        rows.labels[...] = np.where(chosen, tokens, IGNORED)
        rows.inputs[...] = np.where(is_padding, self.pad_id, tokens)
        row, column = np.nonzero(chosen)
        rows.inputs[row, column] = self._read(tokens[row, column], rows_key[row, 0], columns[column])

    def _choose(self, tokens: Tokens, positions: Tokens | None, numbers: NDArray[np.uint64]) -> Mask:
        """Words in a keyed order, as many of the first ones as the share allows."""
        may = self.is_ordinary[tokens] & (tokens != PADDING)
        first = self._first_columns(tokens, positions, may)
        keys = np.where(may, self._draw("choice", numbers, first.astype(np.uint64)), _LAST)
        order = np.argsort(keys, axis=1, kind="stable")
        word = np.take_along_axis(np.where(may, first, -1), order, axis=1)
        rank = np.arange(tokens.shape[1])
        is_whole = np.ones_like(may)  # whether a word ends with a token in that order
        is_whole[:, :-1] = word[:, 1:] != word[:, :-1]
        fits = is_whole & (word >= 0) & (rank < _budget(self.share, may.sum(axis=1))[:, None])
        num_taken = np.where(fits, rank + 1, 0).max(axis=1, initial=0)
        chosen: Mask = np.zeros_like(may)
        np.put_along_axis(chosen, order, rank < num_taken[:, None], axis=1)
        return chosen

    def _first_columns(self, tokens: Tokens, positions: Tokens | None, may: Mask) -> Tokens:
        """Column of the first token of each token's word."""
        columns = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
        if self.words is None:
            return columns
        begins = np.ones_like(may)
        begins[:, 1:] = self.words.begins[tokens[:, 1:]] | self.words.ends[tokens[:, :-1]] | ~may[:, :-1] | ~may[:, 1:]
        if positions is not None:
            begins |= positions == 0
        firsts: Tokens = np.maximum.accumulate(np.where(begins, columns, 0), axis=1)
        return firsts

    def _read(self, tokens: Tokens, numbers: NDArray[np.uint64], columns: NDArray[np.uint64]) -> Tokens:
        """What is read in place of some chosen tokens, whose rows' numbers and columns are given."""
        tenth = self._draw("kind", numbers, columns) % np.uint64(10)
        ordinary = np.flatnonzero(self.is_ordinary)
        other = ordinary[self._draw("token", numbers, columns) % np.uint64(len(ordinary))]
        read: Tokens = np.where(tenth < _MASKED + _REPLACED, other, tokens)
        read[tenth < _MASKED] = self.mask_id
        return read

    def _draw(self, what: str, numbers: NDArray[np.uint64], columns: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """A number in [0, 2^64) for each row number and column."""
        key = np.array([derive_seed(self.seed, "masking", what)], dtype=np.uint64)
        found: NDArray[np.uint64] = mix(mix(key + numbers * _GOLDEN) + columns * _GOLDEN)
        return found


def _budget(share: float, num_tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """The share of some numbers of tokens, in integers: rounded, but one at least where there are any."""
    rounded = (num_tokens * round(share * 2**32) + 2**31) >> 32
    least: NDArray[np.int64] = np.maximum(rounded, 1)
    return np.minimum(least, num_tokens)
