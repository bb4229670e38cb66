"""What a forward pass takes. Legend: B = sequences in a micro batch, L = tokens in a sequence."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.corpus.stretches import ranges
from pipeline.data.phases import NO_HOLES, Holes

IGNORED = -100
"""Label of a position that is not scored."""


@dataclass(frozen=True)
class Sequence:
    """One sequence: at each position the token read and the token to predict."""

    inputs: NDArray[np.int64]
    """Shape (L,)."""
    labels: NDArray[np.int64]
    """Shape (L,): the next token, or -100 where nothing is to be predicted."""


@dataclass(frozen=True)
class MicroBatch:
    """The sequences of one forward pass on one rank."""

    input_ids: torch.Tensor
    """int64 of shape (B, L)."""
    labels: torch.Tensor
    """int64 of shape (B, L), already shifted; -100 is not scored."""
    position_ids: torch.Tensor | None = None
    """int64 of shape (B, L): place of each token in its piece of text, where a sequence holds several that must not
    see each other. None: every sequence is one piece."""


@dataclass(frozen=True)
class Batch:
    """One rank's part of a step."""

    step: int
    """Number of the step, from 0."""
    micro_batches: tuple[MicroBatch, ...]
    """As many on every rank."""
    sources: torch.Tensor | None = None
    """Of each row of all micro batches, R in all, the number of its source: int64 of shape (R,), -1 where a row is
    empty. None where rows are of no sources."""

    @cached_property
    def row_tokens(self) -> torch.Tensor:
        """Labels of each row that are scored, int64 of shape (R,)."""
        return torch.cat([(one.labels != IGNORED).sum(dim=1) for one in self.micro_batches])


class Rows:
    """Sequences being filled in: R rows of L positions, of which each has to be cleared or filled."""

    def __init__(
        self,
        number: int,
        length: int,
        pad_id: int,
        has_pieces: bool = False,
        keeps_apart: bool = False,
        make: Callable[[tuple[int, ...]], torch.Tensor] | None = None,
    ) -> None:
        """Make room.

        Args:
            number: R.
            length: L.
            pad_id: Token where there is no text.
            has_pieces: Whether sequences may hold several pieces, which must not see each other.
            keeps_apart: Whether documents in one piece must not see each other either.
            make: Makes an int64 tensor of a shape, whose values nobody else looks at; by default a fresh one.
        """
        self.pad_id, self.keeps_apart = pad_id, keeps_apart
        self.holes: Holes = NO_HOLES
        """What is to be left out of the text."""
        kinds = 3 if has_pieces or keeps_apart else 2
        self._make = make or partial(torch.empty, dtype=torch.int64)
        self._hold(self._make((kinds, number, length)))

    def _hold(self, tensor: torch.Tensor) -> None:
        # The tensor is kept, not made of the arrays again: torch must know whose memory a copy still reads.
        self._tensor = tensor
        arrays: NDArray[np.int64] = tensor.numpy()
        self.inputs, self.labels = arrays[0], arrays[1]
        self.positions = arrays[2] if len(arrays) == 3 else None

    def clear(self, which: NDArray[Any]) -> None:
        """Make rows weigh nothing; `which` are their numbers, or a mask."""
        self.inputs[which], self.labels[which] = self.pad_id, IGNORED
        if self.positions is not None:
            self.positions[which] = np.arange(self.inputs.shape[1])

    def clear_behind(self, which: NDArray[np.int64], filled: NDArray[np.int64]) -> None:
        """Make the places behind so many first ones weigh nothing in the rows `which`."""
        length = self.inputs.shape[1]
        places = ranges(which * length + filled, length - filled)
        self.inputs.reshape(-1)[places], self.labels.reshape(-1)[places] = self.pad_id, IGNORED
        if self.positions is not None:
            self.positions.reshape(-1)[places] = places % length

    def keep_apart(self, marked: NDArray[np.bool_]) -> None:
        """Divide pieces where places that are marked, in a mask of shape (R, L), meet others that are not."""
        if not marked.any():
            return
        columns = np.arange(self.inputs.shape[1])
        if self.positions is None:
            before, tensor = self._tensor, self._make((3, *self.inputs.shape))
            tensor[:2], tensor[2] = before, torch.from_numpy(columns)
            self._hold(tensor)
        assert self.positions is not None
        begins = np.ones_like(marked)
        begins[:, 1:] = (np.diff(self.positions) != 1) | (marked[:, 1:] != marked[:, :-1])
        self.positions[...] = columns - np.maximum.accumulate(np.where(begins, columns, 0), axis=1)

    def put(self, row: int, sequence: Sequence) -> None:
        """Write one sequence from the beginning of a cleared row on."""
        self.inputs[row, : len(sequence.inputs)] = sequence.inputs
        self.labels[row, : len(sequence.labels)] = sequence.labels

    def micro_batches(self, size: int) -> tuple[MicroBatch, ...]:
        """So many rows each."""
        return tuple(_micro_batch(part) for part in torch.split(self._tensor, size, dim=1))


def _micro_batch(rows: torch.Tensor) -> MicroBatch:
    inputs, labels, *positions = rows.unbind()
    ramp = np.arange(inputs.shape[1])
    return MicroBatch(inputs, labels, *(one for one in positions if not (one.numpy() == ramp).all()))


def stack(sequences: list[Sequence], size: int, length: int, pad_id: int) -> MicroBatch:
    """A micro batch of `size` sequences of `length`, filled up with sequences that weigh nothing."""
    rows = Rows(size, length, pad_id)
    rows.clear(np.arange(size))
    for row, sequence in enumerate(sequences):
        rows.put(row, sequence)
    return rows.micro_batches(size)[0]
