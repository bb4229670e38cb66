"""What a training run would do, without doing it: resolved config, DeepSpeed dict, memory."""

import json
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from pipeline.config.data import CorpusData
from pipeline.config.load import dump
from pipeline.config.model import LlamaModel
from pipeline.config.run import RunConfig
from pipeline.corpus.corpus import Corpus
from pipeline.engine.memory import estimate_memory
from pipeline.engine.settings import deepspeed_dict
from pipeline.models.build import llama_config, num_parameters
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.stages.trained import read_model_config

_USUAL_VOCABULARY = 32_768


def print_training_plan(config: RunConfig) -> None:
    """Print the resolved config, the generated DeepSpeed dict and the memory estimate. Builds no weights."""
    world_size = ranks_from_environment().world_size
    print(dump(config))
    print(json.dumps(deepspeed_dict(config, world_size), indent=1))
    parameters = count_parameters(config)
    memory = estimate_memory(config, parameters, world_size)
    table = Table("Per rank", "GiB", title=f"{parameters:,} parameters, {config.num_steps:,} steps, {world_size} ranks")
    for name, size in (("parameters", memory.parameters), ("gradients", memory.gradients),
                       ("optimizer", memory.optimizer), ("sum, without activations", memory.total)):  # fmt: skip
        table.add_row(name, f"{size / 2**30:.3f}")
    Console().print(table)


def count_parameters(config: RunConfig) -> int:
    """Number of weights of a config's model; without its corpus, the vocabulary is taken as 32,768."""
    if isinstance(config.model, LlamaModel):
        model_config = llama_config(config.model, _vocab_size(config), eos_id=None, pad_id=None)
    else:
        model_config = read_model_config(config.model.run)
    with torch.device("meta"):
        return num_parameters(AutoModelForCausalLM.from_config(model_config))


def _vocab_size(config: RunConfig) -> int:
    if isinstance(config.data, CorpusData) and (folder := Path(config.data.sources[0].corpus)).is_dir():
        return Corpus(folder).manifest.tokenizer.vocab_size
    return _USUAL_VOCABULARY
