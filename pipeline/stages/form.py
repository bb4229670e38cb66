"""The form of a config's model, without memory for its weights: for what is told before a run is started."""

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.config.data import CorpusData
from pipeline.config.decoders import Decoder
from pipeline.config.model import CheckpointModel, HuggingFaceModel, LoraAdapter
from pipeline.config.run import RunConfig
from pipeline.corpus.corpus import Corpus
from pipeline.models.adapters import add_lora
from pipeline.models.build import model_class
from pipeline.models.encoders import encoder_config
from pipeline.models.forms import decoder_config
from pipeline.models.safetensors_folder import read_form
from pipeline.stages.run_folder import read_run
from pipeline.stages.trained import read_model_config
from pipeline.tokenizer.load import load_tokenizer

USUAL_VOCABULARY = 32_768
"""What is assumed as long as there is no corpus."""


def weightless_model(config: RunConfig, vocab_size: int) -> PreTrainedModel:
    """A config's model on the meta device, without adapter; a fresh one of so large a vocabulary."""
    if isinstance(config.model, Decoder):
        form = decoder_config(config.model, vocab_size, eos_id=None, pad_id=None)
    elif isinstance(config.model, HuggingFaceModel):
        form = read_form(config.model.path)
    elif isinstance(config.model, CheckpointModel):
        read_run(config.model.run)
        form = read_model_config(config.model.run)
    else:
        form = encoder_config(config.model, vocab_size, eos_id=None, pad_id=None, mask_id=None)
    with torch.device("meta"):
        return model_class(form).from_config(form)


def with_adapter(config: RunConfig, model: PreTrainedModel) -> nn.Module:
    """The model as it is trained."""
    return add_lora(model, config.adapter, config.seed) if isinstance(config.adapter, LoraAdapter) else model


def vocabulary(config: RunConfig) -> int | None:
    """Size of the vocabulary that a fresh model gets; None as long as there is no corpus."""
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer).vocab_size
    if isinstance(config.data, CorpusData) and (folder := Path(config.data.sources[0].corpus)).is_dir():
        return Corpus(folder).manifest.tokenizer.vocab_size
    return None
