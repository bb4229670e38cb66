"""What every objective tells the engine."""

import torch
from torch import nn


class Objective(nn.Module):
    """A model whose forward pass returns the sum of a micro batch's losses in nats, a scalar in fp32."""

    model: nn.Module
    """The model inside."""
    row_sums: torch.Tensor | None = None
    """Beside it, the losses of each row of the last micro batch, summed: fp32 of shape (B,), detached, on the device.
    It must cost no second pass and no wait for the device; None where an objective tells no rows apart. What is of no
    single row, such as a router's loss, is in the scalar and not in here."""
