"""Decoder blocks, compiled one by one: that is as fast as the whole model, and all of them share what is compiled."""

from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

MANY_FORMS = 64
"""How many forms of its input a function is compiled for. Each sequence length has two, rows of one piece and of
several, and evaluation has its own; beyond torch's default of 8 it would go on uncompiled, with only a warning."""


def compile_blocks(model: nn.Module, **settings: Any) -> None:
    """Compile each decoder block of a model, for every shape anew; `settings` are torch.compile's."""
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.compile(dynamic=False, recompile_limit=MANY_FORMS, **settings)
