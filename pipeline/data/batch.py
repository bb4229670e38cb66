"""What a forward pass takes. Legend: B = sequences in a micro batch, L = tokens in a sequence."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.order import Sample

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


@dataclass(frozen=True)
class Batch:
    """One rank's part of a step."""

    step: int
    """Number of the step, from 0."""
    micro_batches: tuple[MicroBatch, ...]
    """As many on every rank."""
    samples: tuple[Sample, ...]
    """Which samples they hold, in order, padding left out."""


def stack(sequences: list[Sequence], size: int, length: int, pad_id: int) -> MicroBatch:
    """A micro batch of `size` sequences of `length`, filled up with sequences that weigh nothing."""
    inputs = np.full((size, length), pad_id, dtype=np.int64)
    labels = np.full((size, length), IGNORED, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        inputs[row, : len(sequence.inputs)] = sequence.inputs
        labels[row, : len(sequence.labels)] = sequence.labels
    return MicroBatch(torch.from_numpy(inputs), torch.from_numpy(labels))
