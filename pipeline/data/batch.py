"""What a forward pass takes. Legend: B = sequences in a micro batch, L = tokens in a sequence."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

IGNORED = -100
"""Label of a position that is not scored."""


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


class Rows:
    """Sequences being filled in: R rows of L positions, of which each has to be cleared or filled."""

    def __init__(
        self, number: int, length: int, pad_id: int, has_pieces: bool = False, keeps_apart: bool = False
    ) -> None:
        """Make room.

        Args:
            number: R.
            length: L.
            pad_id: Token where there is no text.
            has_pieces: Whether sequences may hold several pieces, which must not see each other.
            keeps_apart: Whether documents in one piece must not see each other either.
        """
        self.pad_id, self.keeps_apart = pad_id, keeps_apart
        self.inputs = np.empty((number, length), dtype=np.int64)
        self.labels = np.empty((number, length), dtype=np.int64)
        self.positions: NDArray[np.int64] | None = None
        if has_pieces or keeps_apart:
            self.positions = np.empty((number, length), dtype=np.int64)

    def clear(self, which: NDArray[Any]) -> None:
        """Make rows weigh nothing; `which` are their numbers, or a mask."""
        self.inputs[which], self.labels[which] = self.pad_id, IGNORED
        if self.positions is not None:
            self.positions[which] = np.arange(self.inputs.shape[1])

    def micro_batches(self, size: int) -> tuple[MicroBatch, ...]:
        """So many rows each."""
        tensors = [torch.from_numpy(array).split(size) for array in (self.inputs, self.labels)]
        positions = [None] * len(tensors[0]) if self.positions is None else torch.from_numpy(self.positions).split(size)
        return tuple(MicroBatch(*three) for three in zip(*tensors, positions, strict=True))
