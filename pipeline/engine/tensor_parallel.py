"""Tensor parallelism by DeepSpeed's AutoTP: ranks that share layers hold a part of each matrix (arXiv:1909.08053).

Which matrices are cut, and how, is transformers' plan for the form of the model (`base_model_tp_plan`): projections
into heads and hidden units by rows, those back into the residual stream by columns. All else is whole on every rank.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from deepspeed.checkpoint.constants import DS_AUTOTP_UC_META
from deepspeed.module_inject.tp_plan_converter import SUPPORTED_STYLES
from deepspeed.runtime.utils import is_model_parallel_parameter
from deepspeed.utils import groups
from torch import nn
from transformers import PreTrainedModel

from pipeline.errors import ConfigError


def plan_cuts(model: nn.Module, size: int) -> None:
    """Let AutoTP find the plan of the transformers model inside `model`, before `deepspeed.initialize`.

    Raises:
        ConfigError: There is none, or what it cuts cannot be divided by `size`.
    """
    config = next(module for module in model.modules() if isinstance(module, PreTrainedModel)).config
    if not config.base_model_tp_plan:
        raise ConfigError(f"engine.tensor_parallel ({size}): transformers has no plan for {config.model_type}; use 1")
    if unknown := set(config.base_model_tp_plan.values()) - SUPPORTED_STYLES:
        raise ConfigError(
            f"engine.tensor_parallel ({size}): DeepSpeed cannot cut {config.model_type} ({', '.join(sorted(unknown))});"
            " use 1"
        )
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        if (number := getattr(config, name, None) or size) % size:
            raise ConfigError(
                f"engine.tensor_parallel ({size}) must divide the model's {name} ({number}); choose another"
            )
    setattr(model, "config", config)  # noqa: B010 - where AutoTP looks for it


class Cut(NamedTuple):
    """How a weight is divided among the ranks that share its layer."""

    shape: tuple[int, ...]
    """Of the whole weight."""
    dimension: int
    """0: by rows, 1: by columns."""
    sizes: tuple[int, ...]
    """Of each rank's part in that dimension."""


def cut_of(parameter: nn.Parameter) -> Cut | None:
    """How a weight is cut, by what AutoTP noted of it; None if it is whole on every rank."""
    noted = getattr(parameter, DS_AUTOTP_UC_META, None)
    if noted is None or noted["partition_dim"] is None:
        return None
    return Cut(noted["logical_shape"], noted["partition_dim"], noted["partition_sizes"])


def total_norm(model: nn.Module, size: int) -> torch.Tensor:
    """Norm of the whole gradient, whose parts of cut weights lie on ranks that share layers; whole ones count once."""
    squares = torch.zeros(2, device=next(model.parameters()).device)
    for parameter in model.parameters():
        if parameter.grad is not None:
            squares[int(is_model_parallel_parameter(parameter))] += parameter.grad.float().square().sum()
    if size > 1:
        dist.all_reduce(squares, group=groups.get_tensor_model_parallel_group())
        squares[0] /= size
    return squares.sum().sqrt()
