"""Bodies of runs whose ranks share sequences or layers."""

from typing import Any

import torch

from pipeline.data.batch import Batch, MicroBatch
from pipeline.engine.engine import Engine
from pipeline.engine.process_group import ProcessGroup
from pipeline.runtime.ranks import ranks_from_environment
from tests.distributed.training_body import LENGTH, MICRO, global_batch, run_config, start

NUM_STEPS = 3
HELD_OUT = 99


def shared_batch(step: int, engine: Engine, packs: bool) -> Batch:
    """This rank's part of a step; where it packs, rows hold two pieces each, of other sizes in each row."""
    inputs, labels = global_batch(step)
    positions = torch.arange(LENGTH).repeat(len(inputs), 1)
    for row in range(len(inputs)):
        first = 2 * row + 1
        positions[row, first:] -= first
    parts = zip(*(one.split(MICRO) for one in (inputs, labels, positions)), strict=True)
    mine = list(parts)[engine.mesh.data_rank :: engine.mesh.data_world_size]
    return Batch(step, tuple(MicroBatch(*part[: 3 if packs else 2]) for part in mine))


def curves(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per config: loss, gradient norm and tokens of each step, and the loss of held-out rows after the last."""
    group = ProcessGroup(ranks_from_environment(), 60)
    results = []
    for changes in configs:
        packs = changes.pop("packs", False)
        engine = start(run_config(**changes), group)
        result: dict[str, Any] = {"loss": [], "norm": [], "tokens": []}
        for step in range(NUM_STEPS):
            outcome = engine.train_step(shared_batch(step, engine, packs), 1.0)
            result["tokens"].append(int(outcome.num_tokens))
            result["loss"].append(float(group.sum(outcome.loss_sum.reshape(1))) / int(outcome.num_tokens))
            result["norm"].append(engine.norm())
        held_out = shared_batch(HELD_OUT, engine, packs)
        result["held_out"] = float(engine.loss_sum(held_out.micro_batches)) / result["tokens"][-1]
        results.append(result)
        engine.close()
    group.close()
    return results
