"""A model from its config. The architecture is transformers' own; its config is what an export writes."""

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from pipeline.config.model import LlamaModel
from pipeline.models.initialization import initial_weights
from pipeline.models.weights import fill_model
from pipeline.tokenizer.base import Tokenizer

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def transformers_config(model: LlamaModel, tokenizer: Tokenizer) -> PretrainedConfig:
    """Our config of a fresh model as transformers' own."""
    return llama_config(model, tokenizer.vocab_size, tokenizer.eos_id, tokenizer.pad_id)


def llama_config(model: LlamaModel, vocab_size: int, eos_id: int | None, pad_id: int | None) -> LlamaConfig:
    """A Llama-form config for a vocabulary of a given size."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=model.hidden_size,
        intermediate_size=model.intermediate_size,
        num_hidden_layers=model.num_layers,
        num_attention_heads=model.num_heads,
        num_key_value_heads=model.num_key_value_heads,
        max_position_embeddings=model.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": model.rope_theta},
        tie_word_embeddings=model.tie_embeddings,
        initializer_range=model.init_std,
        bos_token_id=None,
        eos_token_id=eos_id,
        pad_token_id=pad_id,
        use_cache=False,
    )


def empty_model(config: PretrainedConfig, dtype: str, attention: str) -> PreTrainedModel:
    """A model of a given form, on the CPU, whose weights are to be filled in: they hold what memory held."""
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype], attn_implementation=attention)
    model.tie_weights()
    return model


def fresh_model(config: PretrainedConfig, seed: int, dtype: str, attention: str) -> PreTrainedModel:
    """A model with initial weights, the same on every rank, at every ZeRO stage and world size."""
    model = empty_model(config, dtype, attention)
    fill_model(model, initial_weights(model, seed))
    return model


def num_parameters(model: torch.nn.Module, trainable_only: bool = False) -> int:
    """Number of weights; a weight that two layers share counts once, one that ZeRO partitions counts whole."""
    return sum(
        getattr(parameter, "ds_numel", parameter.numel())
        for parameter in model.parameters()
        if parameter.requires_grad or not trainable_only
    )
