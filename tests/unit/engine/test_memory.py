"""Bytes of the optimizer's state by what the optimizer keeps."""

import pytest

from pipeline.engine.memory import estimate_memory
from tests.distributed.training_body import run_config

ADAMW, LION = {"type": "adamw", "lr": 1e-3}, {"type": "lion", "lr": 1e-3}


@pytest.mark.parametrize(("changes", "stage_one", "stage_zero"), [
    ({"optimizer": ADAMW}, 12, 8),
    ({"optimizer": {**ADAMW, "state_precision": "8bit"}}, 6, 2),
    ({"optimizer": LION}, 8, 4),
    ({"optimizer": ADAMW, "ema": {"decay": 0.9}}, 16, 12),
])  # fmt: skip
def test_bytes_of_the_optimizer_by_parameter(changes, stage_one, stage_zero):
    plain = run_config(zero_stage=0, precision="fp32", **changes)
    shared = run_config(zero_stage=1, **changes)
    assert estimate_memory(plain, 1000, 2).optimizer == 1000 * stage_zero
    assert estimate_memory(shared, 1000, 2).optimizer == 500 * stage_one
