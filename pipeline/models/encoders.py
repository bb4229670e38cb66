"""Encoders, by transformers: their configs, what they are called with, and the logits of single positions."""

from typing import Any

import torch
from torch import nn
from transformers import BertConfig, ModernBertConfig, PretrainedConfig

from pipeline.config.encoders import BertModel, ModernBertModel
from pipeline.models.attention import DOCUMENTS, packed_arguments

_FORMS = ("bert", "modernbert")
"""transformers' names."""


def is_encoder(config: PretrainedConfig) -> bool:
    """Whether a model predicts masked tokens, not the next one."""
    return config.model_type in _FORMS


def encoder_config(
    model: BertModel | ModernBertModel, vocab_size: int, eos_id: int | None, pad_id: int | None, mask_id: int | None
) -> PretrainedConfig:
    """transformers' config of a fresh encoder for a vocabulary of a given size; input and output embedding are one."""
    shared = {
        "vocab_size": vocab_size,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "max_position_embeddings": model.max_positions,
        "initializer_range": model.init_std,
        "bos_token_id": None,
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
        "mask_token_id": mask_id,
    }
    if isinstance(model, BertModel):
        return BertConfig(**shared, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return ModernBertConfig(
        **shared,
        cls_token_id=None,
        sep_token_id=eos_id,
        local_attention=model.local_attention,
        layer_types=[
            "sliding_attention" if number % model.global_every else "full_attention"
            for number in range(model.num_layers)
        ],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": model.global_rope_theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": model.local_rope_theta},
        },
    )


def piece_arguments(
    position_ids: torch.Tensor, config: PretrainedConfig, dtype: torch.dtype, bounds: torch.Tensor | None = None
) -> dict[str, Any]:
    """What an encoder is called with besides its tokens, so that each sees its own piece only.

    transformers looks for pieces in `position_ids` for decoders alone; encoders are given a mask.

    Args:
        position_ids: int64 of shape (B, L): places within pieces; a piece begins where they do not go on by one.
        config: The model's config.
        dtype: Type of the model's activations.
        bounds: Their `piece_bounds`, where they are known already.
    """
    if config._attn_implementation.startswith(("flash", DOCUMENTS)):
        return packed_arguments(position_ids, config._attn_implementation, bounds)
    begins = nn.functional.pad(position_ids.diff(dim=1) != 1, (1, 0))
    piece = begins.cumsum(dim=1)
    sees = piece[:, None, :, None] == piece[:, None, None, :]
    if config.model_type == "bert":
        return {"position_ids": position_ids, "attention_mask": _as_taken(sees, config, dtype)}
    place = torch.arange(position_ids.shape[1], device=position_ids.device)
    is_near = (place[:, None] - place[None, :]).abs() <= config.sliding_window
    masks = {"full_attention": sees, "sliding_attention": sees & is_near}
    taken = {name: _as_taken(mask, config, dtype) for name, mask in masks.items()}
    return {"position_ids": position_ids, "attention_mask": taken}


def _as_taken(sees: torch.Tensor, config: PretrainedConfig, dtype: torch.dtype) -> torch.Tensor:
    """A mask as the model's attention takes it: `eager` adds it to the scores."""
    if config._attn_implementation != "eager":
        return sees
    return torch.zeros_like(sees, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)


def hidden_states(
    model: nn.Module,
    input_ids: torch.Tensor,
    position_ids: torch.Tensor | None = None,
    bounds: torch.Tensor | None = None,
) -> torch.Tensor:
    """An encoder's last hidden states, (B, L, hidden_size); see `piece_arguments` for what tells pieces apart."""
    pieces = {} if position_ids is None else piece_arguments(position_ids, model.config, model.dtype, bounds)
    hidden: torch.Tensor = model.base_model(input_ids=input_ids, **pieces).last_hidden_state
    return hidden


def logits_of(model: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Logits of some hidden states: from shape (…, hidden_size) to (…, vocab_size)."""
    found: torch.Tensor = model.cls(hidden) if model.config.model_type == "bert" else model.decoder(model.head(hidden))
    return found
