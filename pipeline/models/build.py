"""A model from its config. The architecture is transformers' own; its config is what an export writes."""

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from pipeline.config.decoders import Decoder
from pipeline.models.forms import decoder_config
from pipeline.models.initialization import SCALED, Spread, initialize_weights
from pipeline.tokenizer.base import Tokenizer

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


llama_config = decoder_config
"""Its name as long as there was one form."""


def transformers_config(model: Decoder, tokenizer: Tokenizer) -> PretrainedConfig:
    """Our config of a fresh model as transformers' own."""
    return decoder_config(model, tokenizer.vocab_size, tokenizer.eos_id, tokenizer.pad_id)


def empty_model(config: PretrainedConfig, dtype: str, attention: str) -> PreTrainedModel:
    """A model of a given form, on the CPU, whose weights are to be filled in."""
    return AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype], attn_implementation=attention)


def fresh_model(
    config: PretrainedConfig, seed: int, dtype: str, attention: str, spread: Spread = SCALED
) -> PreTrainedModel:
    """A model with initial weights, the same on every rank, at every ZeRO stage and world size."""
    model = empty_model(config, dtype, attention)
    initialize_weights(model, seed, spread)
    return model


def num_parameters(model: torch.nn.Module, trainable_only: bool = False) -> int:
    """Number of weights; a weight that two layers share counts once, one that ZeRO partitions counts whole."""
    return sum(
        getattr(parameter, "ds_numel", parameter.numel())
        for parameter in model.parameters()
        if parameter.requires_grad or not trainable_only
    )
