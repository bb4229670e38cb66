"""Bodies that train in fp16, whose loss scale falls, and in fp8."""

import sys
from pathlib import Path
from typing import Any

from pipeline.engine.checkpoint.finding import newest_good
from pipeline.engine.checkpoint.fragments import prepare
from pipeline.engine.checkpoint.loading import load_checkpoint
from pipeline.engine.engine import Engine
from pipeline.engine.filling import fill
from pipeline.engine.norms import squared_parameter_norm
from pipeline.engine.partition import partitioned
from pipeline.engine.process_group import ProcessGroup
from pipeline.models.build import empty_model
from pipeline.models.forms import decoder_config
from pipeline.models.fp8 import use_fp8
from pipeline.models.initialization import initial_weights
from pipeline.objectives.causal import CausalLoss
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.train.hooks.metrics import MetricsHook, Totals
from pipeline.train.hooks.skipped import SkippedUpdates
from pipeline.train.loop import StepInfo, run, steps
from tests.distributed.training_body import VOCABULARY, rank_batch, run_config, save, start, train, weights_digest
from tests.unit.train.rows import Rows

STEPS, SAVED_AT = 12, 4
"""In all, and those before the checkpoint, while the scale still falls."""


def falling(stages: list[int], scale: float, folder_of_runs: str) -> list[dict[str, Any]]:
    """Of each stage, a run whose scale is far too large: what its steps did, and those of a run that goes on from
    a checkpoint."""
    group, found = ProcessGroup(ranks_from_environment(), 60), []
    for stage in stages:
        config, checkpoints = run_config(zero_stage=stage, precision="fp16"), Path(folder_of_runs) / str(stage)
        engine = start(config, group)
        prepare(engine)
        assert engine.loss_scale is not None
        engine.loss_scale.restore(engine.loss_scale.state() | {"cur_scale": scale})
        before, totals = trained(engine, 0, SAVED_AT, Totals())
        save(engine, checkpoints, SAVED_AT)
        whole, _ = trained(engine, SAVED_AT, STEPS, totals)
        digest = weights_digest(engine)
        engine.close()
        engine = start(config, group)
        load_checkpoint(engine, checkpoints, newest_good(group, checkpoints, lambda name, reason: None))
        resumed, _ = trained(engine, SAVED_AT, STEPS, totals)
        same = digest == weights_digest(engine)
        found.append({"before": before, "whole": whole, "resumed": resumed, "same weights": same})
        engine.close()
    group.close()
    return found


def trained(engine: Engine, first: int, end: int, totals: Totals) -> tuple[list[dict[str, Any]], Totals]:
    """What some steps did, in a loop that bears no skipped update."""
    ranks, told = engine.group.ranks, []
    metrics = MetricsHook(
        engine, Rows(), 100, totals, engine.config.tokens_by_length, float, 1.0, lambda: squared_parameter_norm(engine)
    )
    skipped = SkippedUpdates(engine.group, Path("run"), 0, lambda: metrics.skipped_in_a_row, str)

    def tell(info: StepInfo) -> None:
        assert engine.loss_scale is not None
        loss = float(engine.group.sum(info.loss_sum.reshape(1))) / int(info.num_tokens)
        scale = engine.loss_scale.state()["cur_scale"]
        told.append({"skipped": info.skipped, "rescaled": info.rescaled, "loss": loss, "scale": scale,
                     "norm": engine.norm()})  # fmt: skip

    batches = (rank_batch(step, ranks.rank, ranks.world_size) for step in range(first, end))
    run(steps(engine, batches, lambda step: 1.0, lambda made: False), [metrics, skipped, tell])
    return told, metrics.totals()


def eight_bits(stages: list[int], num_steps: int) -> list[dict[str, Any]]:
    """Of each stage: losses in bf16 and with products in fp8, as a GPU would take them; and how many layers do so."""
    sys.path.append(f"{sys.prefix}/fp8")  # where `make install` puts torchao, which transformers would always import
    group, found = ProcessGroup(ranks_from_environment(), 60), []
    for stage in stages:
        config, losses = run_config(zero_stage=stage), []
        for is_narrow in (False, True):
            with partitioned(config, group):
                model = empty_model(decoder_config(config.model, VOCABULARY, eos_id=0, pad_id=0), "fp32", "eager")
            if is_narrow:
                use_fp8(model, emulate=True)
            engine = Engine(CausalLoss(model), config, group)
            fill(engine, initial_weights(model, config.seed))
            losses.append(train(engine, range(num_steps)))
            engine.close()
        narrow = [name for name, module in model.named_modules() if type(module).__name__ == "Float8Linear"]
        found.append({"bf16": losses[0], "fp8": losses[1], "layers": narrow})
    group.close()
    return found
