"""What DeepSpeed leaves out where it refuses an update whose gradient is not finite: see docs/design/engine.md."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pipeline.models.weights import whole_shape


class LossGuard:
    """Makes a gradient NaN where the loss that it is of is not finite, so that all ranks refuse the update alike.

    A loss can be infinite over finite gradients. The guard stands at the smallest parameter, which every backward
    pass of a dense model reaches; nothing waits for the device.
    """

    def __init__(self, model: nn.Module) -> None:
        """Stand at the model's smallest trainable parameter."""
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        smallest = min(trainable, key=lambda parameter: math.prod(whole_shape(parameter)))
        smallest.register_hook(self._spoil)
        self._is_finite = torch.tensor(True)
        self._refuses = False

    def watch(self, loss: torch.Tensor) -> None:
        """Of this loss the next backward pass will be."""
        self._is_finite = torch.zeros_like(loss, dtype=torch.bool) if self._refuses else loss.detach().isfinite()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Inside, every loss is taken for one that is not finite: steps make no update."""
        self._refuses = True
        try:
            yield
        finally:
            self._refuses = False

    def _spoil(self, gradient: torch.Tensor) -> torch.Tensor:
        return torch.where(self._is_finite, gradient, torch.nan)


def look_before_muon(optimizer: Any, zero_stage: int) -> None:
    """Let DeepSpeed look at gradients before Muon takes them up into its momentum.

    By itself it does so with `BF16_Optimizer`, and where it neither offloads nor partitions parameters; else only in
    fp16 (stage 3) or half precision (stages 1 and 2), and finds the update's norm not finite when momentum is spoilt.
    """
    if zero_stage < 3:
        optimizer.check_grad_overflow = True
        return

    def refuse(update_scale: bool = True) -> bool:
        optimizer.check_overflow()
        return bool(optimizer.overflow)

    optimizer._overflow_check_and_loss_scale_update = refuse


def drop_offloaded_gradients(optimizer: Any) -> None:
    """Drop what stages 1 and 2 keep of a refused step if they offload: it would be added to all gradients to come."""
    optimizer.averaged_gradients = dict.fromkeys(optimizer.averaged_gradients)
