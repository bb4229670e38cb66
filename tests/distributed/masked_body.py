"""Bodies that run inside the processes of a job: encoders that predict masked tokens."""

from typing import Any

import numpy as np

from pipeline.config.load import validate
from pipeline.config.run import RunConfig
from pipeline.data.batch import Batch, Rows
from pipeline.data.noise import PADDING, Noise
from pipeline.engine.engine import Engine
from pipeline.engine.process_group import ProcessGroup
from pipeline.models.build import fresh_model
from pipeline.models.encoders import encoder_config
from pipeline.objectives.masked import MaskedLoss
from pipeline.runtime.ranks import ranks_from_environment

VOCABULARY, LENGTH, GLOBAL, MICRO, SHARE = 64, 16, 8, 2, 0.3
END, PAD, MASK = 0, 1, 2


def run_config(form: str, **engine: Any) -> RunConfig:
    """A tiny run of an encoder."""
    return validate(RunConfig, {
        "stage": "pretrain", "output": "unused", "seed": 3,
        "model": {"type": form, "hidden_size": 32, "intermediate_size": 48, "num_layers": 3, "num_heads": 4,
                  "max_positions": LENGTH},
        "objective": {"type": "masked", "share": SHARE},
        "data": {"type": "corpus", "sources": [{"corpus": "unused", "source": "unused"}], "sequence_length": LENGTH},
        "batch": {"global_size": GLOBAL, "micro_size": MICRO}, "duration": {"steps": 4},
        "optimizer": {"type": "adamw", "lr": 1e-2},
        "engine": {"compile": False, "attention": "eager", "gradient_clipping": 0.5, **engine},
    }, "test")  # fmt: skip


def rank_batch(step: int, rank: int, world_size: int) -> Batch:
    """One rank's part of a step: two documents in each row, padding behind them, whole rows of padding."""
    generator = np.random.default_rng(step)
    rows = Rows(GLOBAL, LENGTH, PADDING, has_pieces=True)
    assert rows.positions is not None
    rows.clear(np.arange(GLOBAL))
    for row in range(GLOBAL - 3):
        rows.inputs[row, : LENGTH - row] = generator.integers(MASK + 1, VOCABULARY, LENGTH - row)
        rows.inputs[row, 5] = END
        rows.positions[row, 6:] = np.arange(LENGTH - 6)
    ordinary = np.arange(VOCABULARY) > MASK
    Noise(3, SHARE, MASK, PAD, ordinary).put_into(rows, step * GLOBAL + np.arange(GLOBAL))
    return Batch(step, rows.micro_batches(MICRO)[rank::world_size])


def curves(configs: list[dict[str, Any]], steps: int = 3) -> list[dict[str, list[float]]]:
    """Per config: loss and gradient norm of each step."""
    ranks = ranks_from_environment()
    group = ProcessGroup(ranks, 60)
    results = []
    for changes in configs:
        config = run_config(**changes)
        form = encoder_config(config.model, VOCABULARY, END, PAD, MASK)
        model = fresh_model(form, config.seed, "fp32", config.engine.attention)
        engine = Engine(MaskedLoss(model, SHARE, config.engine.compile), config, group)
        result: dict[str, list[float]] = {"loss": [], "norm": []}
        for step in range(steps):
            outcome = engine.train_step(rank_batch(step, ranks.rank, ranks.world_size), 1.0)
            result["loss"].append(float(group.sum(outcome.loss_sum.reshape(1))) / int(outcome.num_tokens))
            result["norm"].append(engine.norm())
        results.append(result)
        engine.close()
    group.close()
    return results
