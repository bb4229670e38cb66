"""Lion: the sign of an interpolated momentum (Chen et al. 2023, arXiv:2302.06675, algorithm 2)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer


class Lion(Optimizer):
    """One moment, `exp_avg`, of which each update takes only the sign; weight decay is decoupled.

    It updates each element by itself, so a flat part of many parameters learns as the parameters would.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        """Set up; the moment is made at the first update.

        Args:
            params: Parameters, or groups of them with settings of their own.
            lr: Learning rate, which is how far each element moves.
            betas: Share of the moment in the update, and in the next moment.
            weight_decay: Decoupled, times the learning rate.
        """
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient. `closure` is what torch's interface asks for, and not called."""
        for group in self.param_groups:
            parameters = [one for one in group["params"] if one.grad is not None]
            if parameters:
                self._update(parameters, group["lr"], *group["betas"], group["weight_decay"])

    def _update(self, parameters: list[torch.Tensor], lr: float, now: float, after: float, decay: float) -> None:
        gradients = [one.grad for one in parameters]
        moments = [self._moment(one) for one in parameters]
        signs = torch._foreach_lerp(moments, gradients, 1.0 - now)
        torch._foreach_sign_(signs)
        torch._foreach_mul_(parameters, 1.0 - lr * decay)
        torch._foreach_add_(parameters, signs, alpha=-lr)
        torch._foreach_lerp_(moments, gradients, 1.0 - after)

    def _moment(self, parameter: torch.Tensor) -> torch.Tensor:
        state = self.state[parameter]
        if "exp_avg" not in state:
            state["exp_avg"] = torch.zeros_like(parameter, requires_grad=False)
        moment: torch.Tensor = state["exp_avg"]
        return moment
