"""What is measured of a few steps, for several configurations in one job."""

import math
import time
from typing import Any

import deepspeed
import torch

from pipeline.config.run import RunConfig
from pipeline.engine.engine import Engine
from pipeline.engine.generation import generating
from pipeline.engine.norms import squared_parameter_norm
from pipeline.engine.out_of_memory import largest_batch
from pipeline.engine.process_group import ProcessGroup
from pipeline.engine.stopwatch import PARTS
from pipeline.generation.generate import generate
from pipeline.runtime.ranks import ranks_from_environment
from tests.distributed.training_body import rank_batch, run_config, start, train, weights_digest


def measured(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each config, what its second step tells, and the norm of its weights by two ways."""
    group = ProcessGroup(ranks_from_environment(), 60)
    results = []
    for changes in configs:
        config = _config(**changes)
        rehearsed = start(config, group)
        generator = torch.random.get_rng_state()
        rehearsed.rehearse(largest_batch(rehearsed.config, group.ranks.world_size))
        assert torch.equal(torch.random.get_rng_state(), generator)
        curve = train(rehearsed, range(1))
        with generating(rehearsed) as model:
            written = list(generate(model, [1, 2, 3], max_new_tokens=4, temperature=1.0, top_k=0, seed=7))
        curve += [*train(rehearsed, range(1, 3)), weights_digest(rehearsed)]
        rehearsed.close()
        engine = start(config, group)
        plain = train(engine, range(1))
        begin = time.perf_counter()
        outcome = engine.train_step(_batch(engine, 1), 1.0)
        seconds = time.perf_counter() - begin
        assert outcome.row_sums is not None
        plain += [float(group.sum(outcome.loss_sum.reshape(1))) / int(outcome.num_tokens), *train(engine, range(2, 3))]
        squares = float(group.sum(squared_parameter_norm(engine).reshape(1)))
        results.append({
            "seconds": seconds, "parts": {part: outcome.times.seconds(part) for part in PARTS},
            "rows": outcome.row_sums.tolist(), "loss": float(outcome.loss_sum),
            "norm": math.sqrt(squares), "whole_norm": _whole_norm(engine),
            "rehearsed": curve, "written": written, "plain": [*plain, weights_digest(engine)],
        })  # fmt: skip
        engine.close()
    group.close()
    return results


def _config(hidden_size: int | None = None, **changes: Any) -> RunConfig:
    """A tiny run, or a wider one: at ZeRO 3 DeepSpeed leaves parameters below 100,000 elements whole on each rank."""
    config = run_config(**changes)
    if hidden_size is None:
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"hidden_size": hidden_size})})


def _batch(engine: Engine, step: int) -> Any:
    return rank_batch(step, engine.group.ranks.rank, engine.group.ranks.world_size)


def _whole_norm(engine: Engine) -> float:
    """Of all weights; at stage 3 they are gathered."""
    parameters = list(engine.deepspeed.module.parameters())
    with deepspeed.zero.GatheredParameters(parameters, enabled=engine.deepspeed.zero_optimization_stage() == 3):
        return math.sqrt(sum(float(one.detach().double().square().sum()) for one in parameters))
