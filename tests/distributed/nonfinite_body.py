"""Bodies of jobs in which a loss or a gradient of one rank is not finite."""

import hashlib
import logging
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.data.batch import Batch
from pipeline.engine.checkpoint.fragments import fragments, prepare
from pipeline.engine.checkpoint.layout import EMA
from pipeline.engine.engine import Engine
from pipeline.engine.norms import squared_parameter_norm
from pipeline.engine.process_group import ProcessGroup
from pipeline.errors import CorpusError, DivergenceError
from pipeline.models.build import fresh_model
from pipeline.models.forms import decoder_config
from pipeline.objectives.causal import CausalLoss
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.train.hooks.metrics import MetricsHook, Totals
from pipeline.train.hooks.skipped import SkippedUpdates
from pipeline.train.loop import run, steps
from tests.distributed.training_body import VOCABULARY, rank_batch, run_config
from tests.unit.train.rows import Rows

LOSS_NAN, LOSS_INFINITE, GRADIENT_INFINITE, MATRIX_INFINITE, VECTOR_NAN = BREAKS = (
    "the loss is NaN", "the loss is infinite over finite gradients", "the gradient of the loss is infinite",
    "an element of a matrix's gradient is infinite", "an element of a vector's gradient is NaN",
)  # fmt: skip
WHERE = {
    LOSS_NAN: (1, 0),
    LOSS_INFINITE: (0, 1),
    GRADIENT_INFINITE: (1, 1),
    MATRIX_INFINITE: (1, 0),
    VECTOR_NAN: (0, 1),
}
"""Rank and micro batch that break. Neither broken element is in the part of the rank that breaks it."""


class Breaking(nn.Module):
    """An objective that breaks as planned."""

    def __init__(self, inner: nn.Module, rank: int) -> None:
        super().__init__()
        self.inner, self._rank = inner, rank
        self._plan: str | None = None
        self._left = 0
        parameters = list(inner.parameters())
        matrices = [parameter for parameter in parameters if parameter.ndim == 2]
        matrices[len(matrices) // 4].register_hook(self._breaking_element(MATRIX_INFINITE, math.inf))
        parameters[-2].register_hook(self._breaking_element(VECTOR_NAN, math.nan))

    def plan(self, name: str | None) -> None:
        """What breaks in the next step, if anything."""
        self._plan = name if name and WHERE[name][0] == self._rank else None
        self._left = WHERE[name][1] if name else 0

    @property
    def _now(self) -> str | None:
        return self._plan if self._left == -1 else None

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        loss = self.inner(*parts)
        self._left -= 1
        if self._now == LOSS_NAN:
            return loss * math.nan
        if self._now == LOSS_INFINITE:
            return loss + math.inf
        if self._now == GRADIENT_INFINITE:
            loss.register_hook(lambda gradient: gradient * math.inf)
        return loss

    def _breaking_element(self, name: str, value: float) -> Callable[[torch.Tensor], torch.Tensor]:
        def spoil(gradient: torch.Tensor) -> torch.Tensor:
            spoilt = gradient.clone()
            spoilt.view(-1)[0] = value
            return spoilt if self._now == name else gradient

        return spoil


def start(changes: dict[str, Any], group: ProcessGroup) -> tuple[Engine, Breaking]:
    config = run_config(**changes)
    model_config = decoder_config(config.model, VOCABULARY, eos_id=0, pad_id=0)
    model = fresh_model(model_config, config.seed, "fp32", config.engine.attention)
    breaking = Breaking(CausalLoss(model), group.ranks.rank)
    return Engine(breaking, config, group), breaking


def broken(configs: list[dict[str, Any]], most: int) -> dict[str, Any]:
    """What `outcomes` tells of each config with steps that break and without, and what the loop makes of some."""
    group = ProcessGroup(ranks_from_environment(), 60)
    results = {**_of_all(configs, group), "loop": looped(group, most)}
    group.close()
    return results


def broken_layers(configs: list[dict[str, Any]]) -> dict[str, Any]:
    """The same of ranks that share layers, without the loop: AutoTP's groups hold for a process."""
    group = ProcessGroup(ranks_from_environment(), 60)
    results = _of_all(configs, group)
    group.close()
    return results


def _of_all(configs: list[dict[str, Any]], group: ProcessGroup) -> dict[str, Any]:
    return {
        "broken": [outcomes(changes, group, [LOSS_NAN, None, *BREAKS, None]) for changes in configs],
        "whole": [outcomes(changes, group, [None, None]) for changes in configs],
    }


def outcomes(changes: dict[str, Any], group: ProcessGroup, names: list[str | None]) -> list[dict[str, Any]]:
    """What steps did that break as named; the others see the same data whatever breaks between them."""
    engine, breaking = start(changes, group)
    if "ema" in changes:
        prepare(engine)
    found: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        breaking.plan(name)
        before = weights(engine)
        step = names[:number].count(None) if name is None else 100 + number
        # of two shares also where all ranks take the first: in its micro batches that break, tokens are valid
        outcome = engine.train_step(rank_batch(step, engine.mesh.data_rank, 2), 1.0)
        after = weights(engine)
        found.append({
            "skipped": outcome.skipped, "loss": repr(float(outcome.loss_sum)), "norm": engine.norm(),
            "state": state_digest(engine), "moved": [not torch.equal(a, b) for a, b in zip(before, after, strict=True)],
        })  # fmt: skip
    engine.close()
    return found


def weights(engine: Engine) -> list[torch.Tensor]:
    """This rank's part of them at ZeRO 3, else all."""
    return [getattr(one, "ds_tensor", one).detach().clone() for one in engine.deepspeed.module.parameters()]


def state_digest(engine: Engine) -> str:
    """sha256 of all that this rank keeps between steps: weights, their average, masters, moments, momentum, counts."""
    digest = hashlib.sha256()
    averages = [one.view for one in fragments(engine) if one.kind == EMA]
    for tensor in (*weights(engine), *_optimizer_state(engine.deepspeed.optimizer), *averages):
        digest.update(tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _optimizer_state(optimizer: Any) -> Iterator[torch.Tensor]:
    for master, values in getattr(optimizer, "optimizer", optimizer).state.items():
        yield master
        yield from (torch.as_tensor(values[name]) for name in sorted(values))


class Told(logging.Handler):
    """Keeps what was logged."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def looped(group: ProcessGroup, most: int) -> dict[str, Any]:
    """Rows, warnings and errors of a run some steps of which break, until too many in a row do."""
    engine, breaking = start({"zero_stage": 2, "precision": "fp32"}, group)
    rows, told = Rows(), Told("tarmac.train")
    metrics = MetricsHook(engine, rows, 2, Totals(), engine.config.tokens_by_length, float, 1.0,
                          partial(squared_parameter_norm, engine))  # fmt: skip

    def batches(names: list[str | None]) -> Iterator[Batch]:
        for step, name in enumerate(names):
            breaking.plan(name)
            yield rank_batch(step, group.ranks.rank, group.ranks.world_size)

    def documents(step: int) -> str:
        assert group.ranks.is_main
        if step == 1:
            raise CorpusError("the shard is gone")
        return f"the documents of step {step}"

    def error(names: list[str | None], most: int) -> dict[str, Any]:
        skipped = SkippedUpdates(group, Path("runs/broken"), most, lambda: metrics.skipped_in_a_row, documents)
        try:
            run(steps(engine, batches(names), lambda step: 1.0, lambda made: False), [metrics, skipped])
        except DivergenceError as error:
            return {"text": str(error), "exit_code": error.exit_code, "on_all_ranks": error.on_all_ranks}
        return {}

    good = [None, LOSS_NAN, VECTOR_NAN, None, *[LOSS_INFINITE] * most]
    ended = error([*good, MATRIX_INFINITE, None], most)
    results = {"error": ended, "totals": metrics.totals().__dict__, "rows": rows.rows, "warnings": told.lines}
    results["unnamed"] = error([LOSS_NAN], 0)
    engine.close()
    return results
