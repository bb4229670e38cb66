"""Decoder blocks: compiled one by one, which is as fast as the whole model and shares what is compiled; recomputed."""

from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, SelectiveCheckpointContext, create_selective_checkpoint_contexts
from transformers import PreTrainedModel
from transformers.integrations import moe  # noqa: F401 - registers an operation
from transformers.modeling_layers import GradientCheckpointingLayer

from pipeline.config.engine import Engine
from pipeline.models.documents import attend_pieces

MANY_FORMS = 64
"""How many forms of its input a function is compiled for. Each sequence length has two, rows of one piece and of
several, and evaluation has its own; beyond torch's default of 8 it would go on uncompiled, with only a warning."""

_aten = torch.ops.aten
_KEPT = {
    _aten.mm.default,
    _aten.addmm.default,
    _aten._scaled_mm.default,
    _aten._grouped_mm.default,
    torch.ops.transformers.grouped_mm_fallback.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
    attend_pieces._opoverload,
    torch.ops.torch_attn._varlen_attn.default,
}
"""Operations whose outputs selective recomputation keeps: almost all of a block's arithmetic."""


def prepare_blocks(model: nn.Module, engine: Engine, **compilation: Any) -> None:
    """Turn on recomputation and compilation as the config says; the rest are torch.compile's settings."""
    if engine.recompute != "none":
        recompute_blocks(model, engine.recompute)
    if engine.compile:
        compile_blocks(model, **compilation)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """A model's decoder blocks, or encoder blocks."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def compile_blocks(model: nn.Module, **settings: Any) -> None:
    """Compile each block of a model, for every shape anew; `settings` are torch.compile's.

    Its forward pass is compiled, not its call: hooks stay outside, such as those of ZeRO 3.
    """
    for block in blocks_of(model):
        block.forward = torch.compile(  # type: ignore[method-assign]
            block.forward, dynamic=False, recompile_limit=MANY_FORMS, **settings
        )


def recompute_blocks(model: nn.Module, what: Literal["selective", "full"]) -> None:
    """Keep a block's input only and compute the rest again in the backward pass; or, `selective`, also keep products.

    `selective` keeps what linear layers and attention gave, and computes norms, activations and the like again: little
    arithmetic, much memory (Korthikanti et al. 2022, arXiv:2205.05198, section 5).
    """
    settings: dict[str, Any] = {"use_reentrant": False}
    if what == "selective":
        settings["context_fn"] = partial(create_selective_checkpoint_contexts, _keep_products)
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            named = hasattr(module, "activation_checkpointing_enable")  # before transformers 5.23 it was the other
            enable = module.activation_checkpointing_enable if named else module.gradient_checkpointing_enable
            enable(settings)
            break


def _keep_products(context: SelectiveCheckpointContext, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE
