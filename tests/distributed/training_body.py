"""Bodies that run inside the processes of a job."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from pipeline.config.load import validate
from pipeline.config.run import RunConfig
from pipeline.data.batch import Batch, MicroBatch
from pipeline.engine.checkpoint.finding import newest_good
from pipeline.engine.checkpoint.fragments import fragments, prepare
from pipeline.engine.checkpoint.layout import MASTER
from pipeline.engine.checkpoint.loading import load_checkpoint
from pipeline.engine.checkpoint.saving import Label, Saver
from pipeline.engine.engine import Engine
from pipeline.engine.filling import fill
from pipeline.engine.partition import partitioned
from pipeline.engine.process_group import ProcessGroup
from pipeline.models.build import empty_model, fresh_model
from pipeline.models.forms import decoder_config
from pipeline.models.initialization import initial_weights
from pipeline.objectives.causal import CausalLoss
from pipeline.runtime.ranks import ranks_from_environment

VOCABULARY, LENGTH, GLOBAL, MICRO = 64, 16, 8, 2


def run_config(**changes: Any) -> RunConfig:
    """A tiny run; `changes` replace parts of the engine block or the model, the optimizer, the average, the batch, or
    weigh a z-loss."""
    global_size = changes.pop("global_size", GLOBAL)
    optimizer = changes.pop("optimizer", {"type": "adamw", "lr": 1e-2})
    model = changes.pop("model", {})
    if "type" not in model:
        model = {"type": "llama", "intermediate_size": 64, "num_key_value_heads": 2, **model}
    model = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_positions": LENGTH, **model}
    clipping = 0 if optimizer["type"] == "muon" else 0.5
    ema, z_loss = changes.pop("ema", {}), changes.pop("z_loss", 0.0)
    return validate(RunConfig, {
        "stage": "pretrain", "output": "unused", "seed": 3,
        "model": model, "objective": {"type": "causal", "z_loss": z_loss},
        "data": {"type": "corpus", "sources": [{"corpus": "unused", "source": "unused"}], "sequence_length": LENGTH},
        "batch": {"global_size": global_size, "micro_size": MICRO},
        "duration": {"steps": 4},
        "optimizer": optimizer, "ema": ema,
        "engine": {"compile": False, "attention": "eager", "gradient_clipping": clipping, **changes},
    }, "test")  # fmt: skip


def global_batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels of a whole step: masks uneven over sequences, two whole sequences without a valid token."""
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(VOCABULARY, (GLOBAL, LENGTH + 1), generator=generator)
    labels = tokens[:, 1:].clone()
    for row in range(GLOBAL):
        labels[row, : row * 2] = -100
    labels[2:4] = -100  # the second micro batch of one rank, the first of rank 1 of two
    return tokens[:, :-1].clone(), labels


def rank_batch(step: int, rank: int, world_size: int) -> Batch:
    return share_of(*global_batch(step), step, rank, world_size)


def share_of(inputs: torch.Tensor, labels: torch.Tensor, step: int, rank: int, world_size: int) -> Batch:
    """One rank's part of a whole step whose sequences the ranks' micro batches divide."""
    blocks = zip(inputs.split(MICRO), labels.split(MICRO), strict=True)
    return Batch(step, tuple(MicroBatch(*block) for block in list(blocks)[rank::world_size]))


def start(config: RunConfig, group: ProcessGroup) -> Engine:
    model_config = decoder_config(config.model, VOCABULARY, eos_id=0, pad_id=0)
    with partitioned(config, group):
        model = empty_model(model_config, "fp32", config.engine.attention)
    weights = initial_weights(model, config.seed)  # of the whole model: ranks that share layers cut it
    engine = Engine(CausalLoss(model, z_loss=config.objective.z_loss), config, group)
    fill(engine, weights)
    return engine


def weights_digest(engine: Engine) -> str:
    """sha256 over all whole weights; at stage 3 they are gathered."""
    import deepspeed

    parameters = list(engine.deepspeed.module.parameters())
    with deepspeed.zero.GatheredParameters(parameters, enabled=engine.deepspeed.zero_optimization_stage() == 3):
        digest = hashlib.sha256()
        for parameter in parameters:
            digest.update(parameter.detach().float().numpy().tobytes())
    return digest.hexdigest()


def begins_exactly(engine: Engine) -> bool:
    """Whether this rank's fp32 weights, and the buffers, are those of a whole model that is built in fp32."""
    config = engine.config
    form = decoder_config(config.model, VOCABULARY, eos_id=0, pad_id=0)
    whole = CausalLoss(fresh_model(form, config.seed, "fp32", "eager"))
    weights, buffers = dict(whole.named_parameters()), dict(whole.named_buffers())
    masters = [one for one in fragments(engine) if one.kind == MASTER]
    theirs = dict(engine.deepspeed.module.named_buffers())
    return len(masters) > 0 and theirs.keys() == buffers.keys() and all(
        torch.equal(one.view, weights[one.name].view(-1)[one.start : one.start + one.view.numel()]) for one in masters
    ) and all(torch.equal(theirs[name], one) for name, one in buffers.items())  # fmt: skip


def resumed(configs: list[dict[str, Any]], folder_of_runs: str) -> list[dict[str, Any]]:
    """Per config: losses of steps 2 and 3 of an uninterrupted run, and of a new engine that loaded step 2's save."""
    group = ProcessGroup(ranks_from_environment(), 60)
    results = []
    for number, changes in enumerate(configs):
        checkpoints = Path(folder_of_runs) / str(number)
        engine = start(run_config(**changes), group)
        prepare(engine)
        train(engine, range(2))
        save(engine, checkpoints, 2)
        whole = train(engine, range(2, 4))
        engine.close()
        engine = start(run_config(**changes), group)
        commit = newest_good(group, checkpoints, lambda name, reason: None)
        load_checkpoint(engine, checkpoints, commit)
        results.append({"whole": whole, "resumed": train(engine, range(2, 4))})
        engine.close()
    group.close()
    return results


def save(engine: Engine, checkpoints: Path, step: int) -> None:
    """Save and wait for it."""
    saver = Saver(engine, checkpoints)
    saver.begin(Label(step, {}))
    saver.finish()
    saver.close()


def train(engine: Engine, steps: range) -> list[float]:
    """Losses of some steps."""
    mesh = engine.mesh
    outcomes = [engine.train_step(rank_batch(step, mesh.data_rank, mesh.data_world_size), 1.0) for step in steps]
    return [float(engine.group.sum(outcome.loss_sum.reshape(1))) / int(outcome.num_tokens) for outcome in outcomes]


def curves(configs: list[dict[str, Any]], steps: int = 3) -> list[dict[str, Any]]:
    """Per config: digest of the first weights, whether masters and frequencies begin in full precision, then loss and
    gradient norm of each step."""
    ranks = ranks_from_environment()
    group = ProcessGroup(ranks, 60)
    results = []
    for changes in configs:
        engine = start(run_config(**changes), group)
        result: dict[str, Any] = {"weights": weights_digest(engine), "loss": [], "norm": []}
        result["exact"] = begins_exactly(engine)
        for step in range(steps):
            outcome = engine.train_step(rank_batch(step, ranks.rank, ranks.world_size), 1.0)
            result["loss"].append(float(group.sum(outcome.loss_sum.reshape(1))) / int(outcome.num_tokens))
            result["norm"].append(engine.norm())
        results.append(result)
        engine.close()
    group.close()
    return results
