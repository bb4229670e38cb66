"""Bodies of jobs that keep an average of the weights."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from pipeline.engine.checkpoint.finding import newest_good
from pipeline.engine.checkpoint.fragments import averaged, fragments, prepare
from pipeline.engine.checkpoint.layout import EMA, MASTER
from pipeline.engine.checkpoint.loading import load_checkpoint
from pipeline.engine.checkpoint.weights import saved_weights
from pipeline.engine.engine import Engine
from pipeline.engine.filling import fill
from pipeline.engine.process_group import ProcessGroup
from pipeline.runtime.ranks import ranks_from_environment
from tests.distributed.training_body import rank_batch, run_config, save, start, train, weights_digest


def averages(configs: list[dict[str, Any]], runs: str) -> list[dict[str, Any]]:
    """Per config, what `one` found."""
    group = ProcessGroup(ranks_from_environment(), 60)
    found = [one(changes, group, Path(runs) / str(number)) for number, changes in enumerate(configs)]
    group.close()
    return found


def one(changes: dict[str, Any], group: ProcessGroup, checkpoints: Path) -> dict[str, Any]:
    """Train, save, look at the average and train on; the same from the checkpoint, without a look."""
    engine = prepared(changes, group)
    gap = gap_to_naive(engine, range(3))
    save(engine, checkpoints, 3)
    losses = [held_out_loss(engine)]
    before = weights_digest(engine)
    with averaged(engine):
        losses.append(held_out_loss(engine))
    same = before == weights_digest(engine)
    whole = train(engine, range(3, 5)), digest(engine)
    engine.close()
    engine = prepared(changes, group)
    commit = newest_good(group, checkpoints, lambda name, reason: None)
    load_checkpoint(engine, checkpoints, commit)
    resumed = train(engine, range(3, 5)), digest(engine)
    load_checkpoint(engine, checkpoints, commit)
    fill(engine, saved_weights(checkpoints / "step-00000003", ema=True))
    losses.append(held_out_loss(engine))
    engine.close()
    return {"gap": gap, "losses": losses, "same": same, "whole": whole, "resumed": resumed}


def prepared(changes: dict[str, Any], group: ProcessGroup) -> Engine:
    engine = start(run_config(**changes), group)
    prepare(engine)
    return engine


def gap_to_naive(engine: Engine, steps: range) -> float:
    """Train; the largest distance of this rank's average from the formula's, kept in fp64 beside it."""
    decay = engine.config.ema.decay
    assert decay is not None
    naive = {(part.key, part.start): part.view.double().clone() for part in fragments(engine) if part.kind == MASTER}
    for step in steps:
        train(engine, range(step, step + 1))
        kept = min(decay, (1 + step) / (10 + step))
        for part in fragments(engine):
            if part.kind == MASTER:
                naive[part.key, part.start].mul_(kept).add_(part.view.double(), alpha=1 - kept)
    pairs = [(part.view, naive[f"{MASTER}/{part.name}", part.start]) for part in fragments(engine) if part.kind == EMA]
    assert len(pairs) == len(naive)
    return max(float((mine - other).abs().max()) for mine, other in pairs)


def held_out_loss(engine: Engine) -> float:
    ranks = engine.group.ranks
    return float(engine.loss_sum(rank_batch(99, ranks.rank, ranks.world_size).micro_batches))


def digest(engine: Engine) -> str:
    """sha256 of this rank's part of the average."""
    parts = [part.view.detach().contiguous().numpy().tobytes() for part in fragments(engine) if part.kind == EMA]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def turned_on(group_runs: str) -> dict[str, Any]:
    """A run that kept no average goes on with one: it begins with the checkpoint's weights, not the model's first."""
    group, checkpoints = ProcessGroup(ranks_from_environment(), 60), Path(group_runs)
    engine = prepared({"zero_stage": 1}, group)
    train(engine, range(2))
    save(engine, checkpoints, 2)
    engine.close()
    engine = prepared({"zero_stage": 2, "ema": {"decay": 0.9}}, group)
    load_checkpoint(engine, checkpoints, newest_good(group, checkpoints, lambda name, reason: None))
    parts = {(part.kind, part.name, part.start): part.view for part in fragments(engine)}
    alike = [torch.equal(view, parts[EMA, name, at]) for (kind, name, at), view in parts.items() if kind == MASTER]
    engine.close()
    group.close()
    return {"alike": alike}
