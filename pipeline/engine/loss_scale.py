"""fp16: the loss is scaled so that small gradients do not vanish (Micikevicius et al. 2018, arXiv:1710.03740).

The scale falls where scaled gradients overflow, whose update is skipped, and rises again after a thousand steps that
do not. Both are part of training: nothing is wrong while it falls.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deepspeed.accelerator import get_accelerator

_KEPT = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


class LossScale:
    """The scale by which DeepSpeed multiplies losses."""

    def __init__(self, optimizer: Any) -> None:
        """Of a ZeRO optimizer in fp16; at the smallest scale it goes on, and we count what it skips."""
        self._scaler = optimizer.loss_scaler
        self._scaler.raise_error_at_min_scale = False

    @property
    def can_fall(self) -> bool:
        """Whether it is above its smallest value."""
        return bool(self._scaler.cur_scale > self._scaler.min_scale)

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps; the same on all ranks."""
        return {name: getattr(self._scaler, name) for name in _KEPT}

    def restore(self, state: dict[str, float]) -> None:
        """Go on where a state was taken."""
        for name in _KEPT:
            setattr(self._scaler, name, state[name])


@contextmanager
def on_any_processor() -> Iterator[None]:
    """DeepSpeed refuses fp16 on processors without instructions for it, where our products are taken in fp32."""
    accelerator = get_accelerator()
    accelerator.is_fp16_supported = lambda: True
    try:
        yield
    finally:
        del accelerator.is_fp16_supported
