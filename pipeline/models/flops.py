"""Floating-point operations of a training step, for model FLOPs utilisation (Chowdhery et al. 2022, appendix B)."""

import json
from functools import lru_cache

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel


def training_flops_per_token(config: PretrainedConfig, sequence_length: int, is_frozen: bool = False) -> float:
    """FLOPs per token of one forward and backward pass over a decoder of any form, without recomputation.

    6 for each weight that takes part in a matrix product of a token (2 forward, 4 backward): see `active_weights`.
    For attention 6 * L * num_layers * num_heads * head_size: two products of L * head_size multiply-adds per head, of
    which causal masking leaves half. Of frozen weights no gradients are computed: 4 for each, and the few of low-rank
    updates are left out.
    """
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = sequence_length * config.num_hidden_layers * config.num_attention_heads * head_size
    return (4.0 if is_frozen else 6.0) * _active_weights_of(config.to_json_string()) + 6.0 * attention


def active_weights(model: PreTrainedModel) -> float:
    """Weights that take part in matrix products of one token; the model may be weightless.

    Embeddings are looked up, and count only as the output projection, if they are that, too; norms and biases are no
    products. Of a stack of experts those count that a token is sent to. The router counts whole.
    """
    matrices = [
        parameter
        for module in model.modules()
        if not isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
        if parameter.ndim >= 2
    ]
    return sum(one.numel() * (_active_share(model.config) if one.ndim == 3 else 1.0) for one in matrices)


def _active_share(config: PretrainedConfig) -> float:
    return config.num_experts_per_tok / config.num_local_experts


@lru_cache(maxsize=8)
def _active_weights_of(form: str) -> float:
    with torch.device("meta"):
        return active_weights(AutoModelForCausalLM.from_config(AutoConfig.for_model(**json.loads(form))))


def encoder_flops_per_token(config: PretrainedConfig, sequence_length: int, share: float) -> float:
    """FLOPs per token of one forward and backward pass over an encoder that predicts a share of its tokens.

    As for decoders, but nothing is masked: 12 * span * num_layers * hidden_size for attention, where local attention
    spans its window and the token itself. The head is taken of the predicted tokens alone.
    """
    width, length = config.hidden_size, sequence_length
    is_gated = config.model_type == "modernbert"
    feed_forward = (3 if is_gated else 2) * width * config.intermediate_size
    weights = config.num_hidden_layers * (4 * width * width + feed_forward)
    weights += share * (width * width + width * config.vocab_size)
    kinds = config.layer_types if is_gated else ["full_attention"] * config.num_hidden_layers
    spans = [length if kind == "full_attention" else min(length, config.local_attention + 1) for kind in kinds]
    return 6.0 * weights + 12.0 * sum(spans) * width
