"""What mixtures of experts learn besides: to send as many tokens to each expert (Fedus et al. 2022, arXiv:2101.03961).

It is added to the gradient only: the loss that is reported stays the objective's. It depends on which sequences share
a micro batch, so that 1 rank and 2 agree only where its weight is 0.
"""

from typing import Any

import torch
from torch import nn

from pipeline.data.batch import IGNORED


def router_arguments(model: nn.Module) -> dict[str, Any]:
    """What a model in training is called with, so that it hands out its routers' logits; nothing for a dense one."""
    if model.training and getattr(model.config, "router_aux_loss_coef", 0.0) > 0:
        return {"output_router_logits": True}
    return {}


def with_router_loss(
    loss: torch.Tensor, router_logits: tuple[torch.Tensor, ...], labels: torch.Tensor, config: Any
) -> torch.Tensor:
    """The same loss, whose gradient is that of loss + weight * valid tokens * balance.

    So much for each of its valid tokens a micro batch has a share in the step's mean as large as theirs.

    Args:
        loss: Sum over the micro batch, a scalar in fp32.
        router_logits: Of each block, shape (B * L, experts).
        labels: int64 of shape (B, L); where they are -100, a token's choice does not count.
        config: transformers' config of the model.
    """
    counted = (labels.flatten() != IGNORED).float()
    balances = [balance(logits, counted, config.num_experts_per_tok) for logits in router_logits]
    extra = config.router_aux_loss_coef * counted.sum() * torch.stack(balances).mean()
    return loss + (extra - extra.detach())


def balance(logits: torch.Tensor, counted: torch.Tensor, experts_per_token: int) -> torch.Tensor:
    """How unevenly tokens go to experts, by equation 4: experts * Σ f_e P_e, a scalar in fp32.

    f_e is how often a token is sent to expert e, P_e its mean probability; `experts_per_token` where both are even.

    Args:
        logits: A router's, shape (tokens, experts).
        counted: Weights of tokens, fp32 of shape (tokens,).
        experts_per_token: How many each token is sent to.
    """
    probabilities = logits.float().softmax(dim=-1)
    chosen = torch.zeros_like(probabilities).scatter(1, probabilities.topk(experts_per_token, dim=-1).indices, 1.0)
    number = counted.sum().clamp(min=1)
    shares = (counted @ chosen) / number
    return logits.shape[1] * (shares * (counted @ probabilities) / number).sum()
