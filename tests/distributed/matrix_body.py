"""Body of a job that learns a small language in any of the ways in which a step can be laid out."""

from typing import Any

import torch

from pipeline.data.batch import Batch, MicroBatch
from pipeline.engine.process_group import ProcessGroup
from pipeline.runtime.ranks import ranks_from_environment
from tests.distributed.training_body import LENGTH, VOCABULARY, run_config, start

NUM_STEPS, NUM_ROWS = 50, 8
"""Rows of a step where two documents share one."""


def documents(step: int) -> list[torch.Tensor]:
    """Two for each row, as long as it together; a token is followed by one of the next four."""
    generator = torch.Generator().manual_seed(step)
    found = []
    for _ in range(NUM_ROWS):
        cut = int(torch.randint(3, LENGTH - 2, (), generator=generator))
        for length in (cut, LENGTH - cut):
            steps = torch.randint(1, 5, (length + 1,), generator=generator)
            found.append(steps.cumsum(0) % VOCABULARY)
    return found


def packed_rows(texts: list[torch.Tensor]) -> MicroBatch:
    """Two documents in each row, told apart by their positions."""
    pairs = list(zip(texts[::2], texts[1::2], strict=True))
    return MicroBatch(
        torch.stack([torch.cat([one[:-1], other[:-1]]) for one, other in pairs]),
        torch.stack([torch.cat([one[1:], other[1:]]) for one, other in pairs]),
        torch.stack([torch.cat([torch.arange(len(one) - 1), torch.arange(len(other) - 1)]) for one, other in pairs]),
    )


def lone_rows(texts: list[torch.Tensor]) -> MicroBatch:
    """Each document in a row of its own, filled up."""
    inputs, labels = torch.zeros(len(texts), LENGTH, dtype=torch.int64), torch.full((len(texts), LENGTH), -100)
    for row, text in enumerate(texts):
        inputs[row, : len(text) - 1], labels[row, : len(text) - 1] = text[:-1], text[1:]
    return MicroBatch(inputs, labels)


def share(step: int, packed: bool, accumulation: int, rank: int, world_size: int) -> Batch:
    """A rank's part of a step, in so many micro batches."""
    rows = (packed_rows if packed else lone_rows)(documents(step))
    whole = [rows.input_ids, rows.labels, *([rows.position_ids] if packed else [])]
    parts = [part.chunk(world_size)[rank].chunk(accumulation) for part in whole]
    return Batch(step, tuple(MicroBatch(*some) for some in zip(*parts, strict=True)))


def curves(layouts: list[dict[str, Any]]) -> list[list[float]]:
    """Losses of 50 steps in each layout: its `ranks`, `packed`, `accumulation`, and changes of the engine block."""
    ranks = ranks_from_environment()
    group, found = ProcessGroup(ranks, 60), []
    for layout in layouts:
        assert layout.pop("ranks") == ranks.world_size
        packed, accumulation = layout.pop("packed"), layout.pop("accumulation")
        config = run_config(attention="documents", optimizer={"type": "adamw", "lr": 3e-3}, **layout)
        engine, losses = start(config, group), []
        for step in range(NUM_STEPS):
            outcome = engine.train_step(share(step, packed, accumulation, ranks.rank, ranks.world_size), 1.0)
            losses.append(float(group.sum(outcome.loss_sum.double().reshape(1))) / int(outcome.num_tokens))
        found.append(losses)
        engine.close()
        torch.compiler.reset()
    group.close()
    return found
