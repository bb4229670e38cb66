"""Bodies that save under one stage and number of ranks, and load under others."""

from pathlib import Path
from typing import Any

import torch

from pipeline.engine.checkpoint.finding import newest_good
from pipeline.engine.checkpoint.fragments import prepare
from pipeline.engine.checkpoint.loading import load_checkpoint
from pipeline.engine.checkpoint.saving import Label, Saver
from pipeline.engine.engine import Engine
from pipeline.engine.process_group import ProcessGroup
from pipeline.models.build import fresh_model
from pipeline.models.forms import decoder_config
from pipeline.objectives.causal import CausalLoss
from pipeline.runtime.ranks import ranks_from_environment
from tests.distributed.training_body import VOCABULARY, run_config, train

FROZEN = ("model.model.embed_tokens", "model.model.layers.0.")


def save_all(runs: str, names: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    """Train two steps of each configuration, save, and train two more, whose losses are returned."""
    group = ProcessGroup(ranks_from_environment(), 60)
    losses = {}
    for name, changes in names.items():
        engine = start(changes, group)
        prepare(engine)
        train(engine, range(2))
        saver = Saver(engine, Path(runs) / name, asynchronous=True)
        saver.begin(Label(2, {}))
        saver.finish()
        saver.close()
        losses[name] = train(engine, range(2, 4))
        engine.close()
    group.close()
    return losses


def load_all(runs: str, sources: list[str], names: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    """Load each of the sources into an engine of each configuration; the losses of the two steps that follow."""
    group = ProcessGroup(ranks_from_environment(), 60)
    losses = {}
    for name, changes in names.items():
        engine = start(changes, group, spoiled=True)
        for source in sources:
            checkpoints = Path(runs) / source
            load_checkpoint(engine, checkpoints, newest_good(group, checkpoints, lambda folder, reason: None))
            losses[f"{source} -> {name}"] = train(engine, range(2, 4))
        engine.close()
    group.close()
    return losses


def start(changes: dict[str, Any], group: ProcessGroup, spoiled: bool = False) -> Engine:
    """An engine; spoiled, its weights are such that nothing but a load makes them right."""
    changes = dict(changes)
    is_frozen = changes.pop("frozen", False)
    config = run_config(**changes)
    model = CausalLoss(fresh_model(decoder_config(config.model, VOCABULARY, eos_id=0, pad_id=0), 3, "fp32", "eager"))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not (is_frozen and name.startswith(FROZEN))
        if spoiled:
            with torch.no_grad():
                parameter.fill_(0.25)
    return Engine(model, config, group)
