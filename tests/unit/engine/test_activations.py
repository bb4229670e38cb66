"""What passes take, found without memory, is what they take."""

import pytest

from tests.distributed.jobs import run_job

SIZES = [(128, 3, 4096), (256, 4, 8192), (384, 6, 16384)]
"""Width, blocks and vocabulary."""
ENGINES = [
    {"zero_stage": 1, "precision": "bf16", "attention": "documents"},
    {"zero_stage": 2, "precision": "bf16", "attention": "documents", "compile": True},
    {"zero_stage": 2, "precision": "fp32", "attention": "documents", "recompute": "full"},
    {"zero_stage": 3, "precision": "bf16", "attention": "sdpa"},
]


pytestmark = pytest.mark.timeout(900)
"""The first test waits for the job of all."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    job = tmp_path_factory.mktemp("memory")
    return run_job("tests.unit.stages.doctor_body:tried", 1, job, sizes=SIZES, engines=ENGINES)[0]


@pytest.mark.parametrize("number", range(len(SIZES) * len(ENGINES)))
def test_a_step_takes_what_is_foretold(results, number):
    foretold, measured = results[number]
    assert foretold == pytest.approx(measured, rel=0.15)
