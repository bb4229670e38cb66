"""Norms over what all ranks hold parts of."""

import torch

from pipeline.engine.checkpoint.fragments import masters
from pipeline.engine.engine import Engine


def squared_parameter_norm(engine: Engine) -> torch.Tensor:
    """Sum of the squares of this rank's part of the trained weights, in their fp32 masters: a scalar in fp64.

    Each element is one rank's, at every ZeRO stage: the root of the sum over ranks is the norm of all. The result
    stays on the device.
    """
    mine = [one.view for one in masters(engine) if one.is_owned]
    if not mine:
        return torch.zeros((), dtype=torch.float64)
    return torch.stack(torch._foreach_norm(mine)).double().square().sum()
