"""A checkpoint brings back everything: losses after loading are those of the run that never stopped, bit by bit."""

import pytest

from tests.distributed.jobs import run_job

MUON = {"type": "muon", "lr": 0.02, "adam_lr": 0.01}
CONFIGS = [
    {"zero_stage": 0, "precision": "fp32"},
    {"zero_stage": 1, "precision": "bf16"},
    {"zero_stage": 2, "precision": "bf16"},
    {"zero_stage": 3, "precision": "bf16"},
    {"zero_stage": 2, "precision": "bf16", "optimizer": MUON},
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    job = tmp_path_factory.mktemp("resume")
    body = "tests.distributed.training_body:resumed"
    return run_job(body, 2, job / "job", configs=CONFIGS, folder_of_runs=str(job / "runs"))


@pytest.mark.parametrize("number", range(len(CONFIGS)))
@pytest.mark.parametrize("rank", [0, 1])
def test_resumed_equals_uninterrupted(results, rank, number):
    result = results[rank][number]
    assert result["resumed"] == result["whole"]
    assert len(set(result["whole"])) == 2
