"""What is measured of a few steps, for several configurations in one job."""

import math
import time
from typing import Any

import deepspeed

from pipeline.engine.engine import Engine
from pipeline.engine.norms import squared_parameter_norm
from pipeline.engine.process_group import ProcessGroup
from pipeline.engine.stopwatch import PARTS
from pipeline.runtime.ranks import ranks_from_environment
from tests.distributed.training_body import rank_batch, run_config, start


def measured(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each config, what its second step tells, and the norm of its weights by two ways."""
    group = ProcessGroup(ranks_from_environment(), 60)
    results = []
    for changes in configs:
        engine = start(run_config(**changes), group)
        engine.train_step(_batch(engine, 0), 1.0)
        begin = time.perf_counter()
        outcome = engine.train_step(_batch(engine, 1), 1.0)
        seconds = time.perf_counter() - begin
        assert outcome.row_sums is not None
        squares = float(group.sum(squared_parameter_norm(engine).reshape(1)))
        results.append({
            "seconds": seconds, "parts": {part: outcome.times.seconds(part) for part in PARTS},
            "rows": outcome.row_sums.tolist(), "loss": float(outcome.loss_sum),
            "norm": math.sqrt(squares), "whole_norm": _whole_norm(engine),
        })  # fmt: skip
        engine.close()
    group.close()
    return results


def _batch(engine: Engine, step: int) -> Any:
    return rank_batch(step, engine.group.ranks.rank, engine.group.ranks.world_size)


def _whole_norm(engine: Engine) -> float:
    """Of all weights; at stage 3 they are gathered."""
    parameters = list(engine.deepspeed.module.parameters())
    with deepspeed.zero.GatheredParameters(parameters, enabled=engine.deepspeed.zero_optimization_stage() == 3):
        return math.sqrt(sum(float(one.detach().double().square().sum()) for one in parameters))
