"""What a training run would do, without doing it: resolved config, DeepSpeed dict, memory."""

import json

from rich.console import Console
from rich.table import Table

from pipeline.config.decoders import Decoder
from pipeline.config.encoders import ENCODERS
from pipeline.config.load import dump
from pipeline.config.run import RunConfig
from pipeline.engine.memory import estimate_model
from pipeline.engine.settings import deepspeed_dict
from pipeline.models.build import num_parameters
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.stages.form import USUAL_VOCABULARY, vocabulary, weightless_model, with_adapter


def print_training_plan(config: RunConfig) -> None:
    """Print the resolved config, the generated DeepSpeed dict and the memory estimate. Builds no weights."""
    shared = config.engine.sequence_parallel * config.engine.tensor_parallel
    world_size = max(ranks_from_environment().world_size, shared)
    print(dump(config))
    settings = deepspeed_dict(config, world_size)
    rows = settings["train_batch_size"] // shared  # to DeepSpeed each rank has rows of its own
    if empty := rows - config.batch.global_size:
        size = f"batch.global_size is {config.batch.global_size}"
        print(f"# {size}; DeepSpeed's batch is {rows}, {empty} of weight 0")
    print(json.dumps(settings, indent=1))
    print_memory(config, world_size)


def print_memory(config: RunConfig, world_size: int) -> None:
    """Print how much memory each of so many ranks needs, and the vocabulary if that had to be guessed.

    To standard error: what `tarmac launch --dry-run` prints besides is a script or a command.
    """
    console = Console(stderr=True)
    known = vocabulary(config)
    model = with_adapter(config, weightless_model(config, known or USUAL_VOCABULARY))
    parameters, memory = num_parameters(model), estimate_model(config, model, world_size)
    facts = f"{parameters:,} parameters, {config.num_steps:,} steps, {world_size} ranks"
    table = Table("Per rank", "GiB")
    for name, size in (("parameters", memory.parameters), ("gradients", memory.gradients),
                       ("optimizer", memory.optimizer), ("sum, without activations", memory.total)):  # fmt: skip
        table.add_row(name, f"{size / 2**30:.3f}")
    console.print(facts, table, highlight=False, sep="\n")
    if known is None and isinstance(config.model, (Decoder, *ENCODERS)):
        words = "The corpus is not there yet: a vocabulary of"
        console.print(f"{words} {USUAL_VOCABULARY:,} is assumed.", highlight=False, soft_wrap=True)


def count_parameters(config: RunConfig, vocab_size: int) -> int:
    """Number of weights of a config's model; those of a fresh one depend on the vocabulary."""
    return num_parameters(weightless_model(config, vocab_size))
