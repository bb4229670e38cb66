"""A job one rank of which is slow by itself."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.data.batch import Batch
from pipeline.engine.engine import Engine
from pipeline.engine.process_group import ProcessGroup
from pipeline.models.build import fresh_model
from pipeline.models.forms import decoder_config
from pipeline.objectives.causal import CausalLoss
from pipeline.runtime.files import read_json_lines
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.train.hooks.stragglers import Stragglers
from pipeline.train.loop import StepInfo, run, steps
from tests.distributed.nonfinite_body import Rows, Told
from tests.distributed.training_body import VOCABULARY, rank_batch, run_config


class Slow(nn.Module):
    """An objective whose forward pass takes its time."""

    def __init__(self, inner: nn.Module, seconds: float) -> None:
        super().__init__()
        self.inner, self._seconds = inner, seconds

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        time.sleep(self._seconds)
        return self.inner(*parts)


def one_slow_rank(slow: int, seconds: float, num_steps: int, run_folder: str) -> dict[str, Any]:
    """Own and whole seconds of each step, rows and warnings, where a rank's data and both forward passes take longer.

    Before each step all ranks wait until all of them have their data.
    """
    group = ProcessGroup(ranks_from_environment(), 60)
    more = seconds if group.ranks.rank == slow else 0.0
    config = run_config(zero_stage=2)
    model_config = decoder_config(config.model, VOCABULARY, eos_id=0, pad_id=0)
    model = fresh_model(model_config, config.seed, "fp32", config.engine.attention)
    engine = Engine(Slow(CausalLoss(model), more), config, group)
    rows, told = Rows(), Told("tarmac.train")
    infos: list[StepInfo] = []

    def batches() -> Iterator[Batch]:
        for step in range(num_steps):
            time.sleep(more)
            group.barrier()
            yield rank_batch(step, group.ranks.rank, group.ranks.world_size)

    made = steps(engine, batches(), lambda step: 1.0, lambda made: made == num_steps, lambda: more)
    run(made, [infos.append, Stragglers(group, rows, 2, 1.5, Path(run_folder))])
    engine.close()
    group.close()
    return {
        "ranks": read_json_lines(Path(run_folder) / "ranks.jsonl"),
        "own": [info.own_seconds for info in infos], "whole": [info.seconds for info in infos],
        "rows": rows.rows, "warnings": told.lines,
    }  # fmt: skip
