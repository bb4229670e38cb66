"""Bodies of runs whose batches and sequences grow."""

import os
import signal
from pathlib import Path
from typing import Any

import torch

from pipeline.data.batch import Batch, MicroBatch
from pipeline.engine.checkpoint.finding import newest_good
from pipeline.engine.checkpoint.fragments import prepare
from pipeline.engine.checkpoint.loading import load_checkpoint
from pipeline.engine.engine import Engine
from pipeline.engine.process_group import ProcessGroup
from pipeline.runtime.ranks import ranks_from_environment
from tests.distributed.training_body import MICRO, VOCABULARY, run_config, save, share_of, start

NUM_MICRO_BATCHES = (2, 5, 5, 1, 5, 3)
"""Of each step, on each of two ranks."""
LENGTHS = (8, 8, 16, 16, 4, 16)


def ramp_batch(step: int, group: ProcessGroup) -> Batch:
    """One rank's part of a step; labels are masked unevenly, so that micro batches weigh differently."""
    ranks = group.ranks
    generator = torch.Generator().manual_seed(step)
    number = NUM_MICRO_BATCHES[step] * MICRO * 2
    tokens = torch.randint(VOCABULARY, (number, LENGTHS[step] + 1), generator=generator)
    labels = tokens[:, 1:].clone()
    labels[torch.rand(labels.shape, generator=generator) < torch.linspace(0, 0.9, number)[:, None]] = -100
    return share_of(tokens[:, :-1].clone(), labels, step, ranks.rank, ranks.world_size)


def measure(engine: Engine, batch: Batch) -> tuple[float, float]:
    """Loss and gradient norm of a step."""
    outcome = engine.train_step(batch, 1.0)
    return float(engine.group.sum(outcome.loss_sum.reshape(1))) / int(outcome.num_tokens), engine.norm()


def ramped(configs: list[dict[str, Any]], global_sizes: list[int]) -> list[list[list[tuple[float, float]]]]:
    """Per config and global size that DeepSpeed is told at the start, what all steps measure."""
    group = ProcessGroup(ranks_from_environment(), 60)
    results = []
    for changes in configs:
        curves = []
        for global_size in global_sizes:
            engine = start(run_config(**changes, global_size=global_size), group)
            curves.append([measure(engine, ramp_batch(step, group)) for step in range(len(LENGTHS))])
            engine.close()
        results.append(curves)
    group.close()
    return results


def ramp_run(configs: list[dict[str, Any]], folder_of_runs: str, kill_at: int | None = None) -> Any:
    """Go on from the newest save of each config and save every second step; or be killed in the middle of a step."""
    group = ProcessGroup(ranks_from_environment(), 60)
    results = []
    for number, changes in enumerate(configs):
        checkpoints = Path(folder_of_runs) / str(number)
        checkpoints.mkdir(parents=True, exist_ok=True)
        engine = start(run_config(**changes), group)
        commit = newest_good(group, checkpoints, lambda name, reason: None)
        if commit:
            load_checkpoint(engine, checkpoints, commit)
        else:
            prepare(engine)
        curve = []
        for step in range(commit.step if commit else 0, len(LENGTHS)):
            if step == kill_at:
                break
            curve.append(measure(engine, ramp_batch(step, group)))
            if step % 2 and kill_at is not None:
                save(engine, checkpoints, step + 1)
        if step == kill_at and number == len(configs) - 1:
            engine._forward(ramp_batch(step, group).micro_batches[0])
            os.kill(os.getpid(), signal.SIGKILL)
        results.append({"first": commit.step if commit else 0, "curve": curve})
        engine.close()
    group.close()
    return results


def packed(configs: list[dict[str, Any]]) -> list[Any]:
    """Per config: what steps measure of rows of several pieces, of the same pieces in rows of their own, and of the
    same rows with nothing kept apart."""
    group = ProcessGroup(ranks_from_environment(), 60)
    forms = (packed_batch, alone_batch, mixed_batch)
    results = []
    for changes in configs:
        curves = []
        for form in forms:
            engine = start(run_config(**changes), group)
            curves.append([measure(engine, form(step, group)) for step in range(3)])
            engine.close()
        results.append(curves)
    group.close()
    return results


def packed_batch(step: int, group: ProcessGroup) -> Batch:
    """Two pieces in each of two rows, of other sizes on each rank, in three micro batches."""
    return Batch(step, tuple(_packed(step, group.ranks.rank, number) for number in range(3)))


def _packed(step: int, rank: int, number: int) -> MicroBatch:
    generator = torch.Generator().manual_seed(100 * step + 10 * rank + number)
    tokens = torch.randint(VOCABULARY, (2, 17), generator=generator)
    positions = torch.arange(16).repeat(2, 1)
    for row, first in enumerate(_pieces(rank, number)):
        positions[row, first:] -= first
    return MicroBatch(tokens[:, :-1].clone(), tokens[:, 1:].clone(), positions)


def _pieces(rank: int, number: int) -> tuple[int, int]:
    """Where the second piece of each row begins."""
    return 3 + rank + number, 9 - rank


def alone_batch(step: int, group: ProcessGroup) -> Batch:
    """The same pieces, each at the beginning of a row of its own."""
    found = []
    for number, micro in enumerate(packed_batch(step, group).micro_batches):
        inputs = torch.zeros((4, 16), dtype=torch.int64)
        labels = torch.full((4, 16), -100)
        for row, first in enumerate(_pieces(group.ranks.rank, number)):
            for place, piece in enumerate((slice(None, first), slice(first, None))):
                size = len(micro.input_ids[row, piece])
                inputs[2 * row + place, :size] = micro.input_ids[row, piece]
                labels[2 * row + place, :size] = micro.labels[row, piece]
        found.append(MicroBatch(inputs, labels))
    return Batch(step, tuple(found))


def mixed_batch(step: int, group: ProcessGroup) -> Batch:
    """The same rows, in which everything sees what comes before it."""
    micro_batches = packed_batch(step, group).micro_batches
    return Batch(step, tuple(MicroBatch(micro.input_ids, micro.labels) for micro in micro_batches))
