"""A model from its config. The architecture is transformers' own; its config is what an export writes."""

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, LlamaConfig, PretrainedConfig, PreTrainedModel

from pipeline.config.encoders import BertModel, ModernBertModel
from pipeline.config.model import LlamaModel
from pipeline.models.encoders import encoder_config, is_encoder
from pipeline.models.initialization import initialize_weights
from pipeline.tokenizer.base import Tokenizer

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def transformers_config(model: LlamaModel | BertModel | ModernBertModel, tokenizer: Tokenizer) -> PretrainedConfig:
    """Our config of a fresh model as transformers' own."""
    if not isinstance(model, LlamaModel):
        return encoder_config(model, tokenizer.vocab_size, tokenizer.eos_id, tokenizer.pad_id, tokenizer.mask_id)
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
    """A model of a given form, on the CPU, whose weights are to be filled in."""
    return model_class(config).from_config(config, dtype=DTYPES[dtype], attn_implementation=attention)


def model_class(config: PretrainedConfig) -> type[AutoModelForCausalLM] | type[AutoModelForMaskedLM]:
    """What transformers makes a model of a given form by."""
    return AutoModelForMaskedLM if is_encoder(config) else AutoModelForCausalLM


def fresh_model(config: PretrainedConfig, seed: int, dtype: str, attention: str) -> PreTrainedModel:
    """A model with initial weights, the same on every rank, at every ZeRO stage and world size."""
    model = empty_model(config, dtype, attention)
    initialize_weights(model, seed)
    return model


def num_parameters(model: torch.nn.Module, trainable_only: bool = False) -> int:
    """Number of weights; a weight that two layers share counts once, one that ZeRO partitions counts whole."""
    return sum(
        getattr(parameter, "ds_numel", parameter.numel())
        for parameter in model.parameters()
        if parameter.requires_grad or not trainable_only
    )
