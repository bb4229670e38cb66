"""A model from its config. The architecture is transformers' own; its config is what an export writes."""

import torch
from torch import nn
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights

from pipeline.config.decoders import Decoder
from pipeline.config.encoders import BertModel, ModernBertModel
from pipeline.models.attention import DOCUMENTS
from pipeline.models.documents import attend_by_document
from pipeline.models.encoders import encoder_config, is_encoder
from pipeline.models.forms import decoder_config
from pipeline.models.initialization import SCALED, Spread, initial_weights
from pipeline.models.weights import fill_model
from pipeline.tokenizer.base import Tokenizer

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def transformers_config(model: Decoder | BertModel | ModernBertModel, tokenizer: Tokenizer) -> PretrainedConfig:
    """Our config of a fresh model as transformers' own."""
    if isinstance(model, Decoder):
        return decoder_config(model, tokenizer.vocab_size, tokenizer.eos_id, tokenizer.pad_id)
    return encoder_config(model, tokenizer.vocab_size, tokenizer.eos_id, tokenizer.pad_id, tokenizer.mask_id)


def empty_model(config: PretrainedConfig, dtype: str, attention: str) -> PreTrainedModel:
    """A model of a given form, on the CPU, whose weights are to be filled in: they hold what memory held."""
    AttentionInterface.register(DOCUMENTS, attend_by_document)
    with no_init_weights():
        model = model_class(config).from_config(config, dtype=DTYPES[dtype], attn_implementation=attention)
    model.tie_weights()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.padding_idx = None  # nothing is learned of that row; where pads are ends of text it must be
    return model


def model_class(config: PretrainedConfig) -> type[AutoModelForCausalLM] | type[AutoModelForMaskedLM]:
    """What transformers makes a model of a given form by."""
    return AutoModelForMaskedLM if is_encoder(config) else AutoModelForCausalLM


def fresh_model(
    config: PretrainedConfig, seed: int, dtype: str, attention: str, spread: Spread = SCALED
) -> PreTrainedModel:
    """A model with initial weights, the same on every rank, at every ZeRO stage and world size."""
    model = empty_model(config, dtype, attention)
    fill_model(model, initial_weights(model, seed, spread))
    return model


def num_parameters(model: nn.Module, trainable_only: bool = False) -> int:
    """Number of weights; a weight that two layers share counts once, one that ZeRO partitions counts whole."""
    return sum(
        getattr(parameter, "ds_numel", parameter.numel())
        for parameter in model.parameters()
        if parameter.requires_grad or not trainable_only
    )
