"""What a training step did."""

from dataclasses import dataclass

import torch

from pipeline.engine.stopwatch import Stopwatch


@dataclass(frozen=True)
class StepOutcome:
    """What a step did; its tensors are still on the device, so that nothing waits for them."""

    loss_sum: torch.Tensor
    """This rank's part of the sum of losses in nats, a scalar; 0 where another rank has the same rows and tokens."""
    num_tokens: torch.Tensor
    """Valid tokens of all ranks, a scalar."""
    digest: str
    """xxh3 of this rank's rows as they went forward, in order: inputs, labels, positions where there are any."""
    skipped: bool
    """Whether no update was made, because a loss or the gradient was not finite; the same on all ranks."""
    rescaled: bool
    """Whether it was skipped only because the gradient, scaled for fp16, overflowed: the scale falls, and no more."""
    times: Stopwatch
    """How long its parts took on this rank; up to ZeRO 2 no other rank has a part in the forward passes."""
    row_sums: torch.Tensor | None
    """Losses of each of this rank's rows, summed: fp32 of shape (R,); None where the objective tells none apart."""
