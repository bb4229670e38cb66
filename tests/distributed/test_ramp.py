"""Batches and sequences that grow: steps of any number of micro batches, whatever DeepSpeed was told at the start."""

import math

import pytest

from tests.distributed.jobs import run_job

CONFIGS = [
    {"zero_stage": 0, "precision": "fp32"},
    {"zero_stage": 1, "precision": "bf16"},
    {"zero_stage": 2, "precision": "bf16"},
    {"zero_stage": 3, "precision": "bf16"},
]
TOLD = [20, 8, 4]
"""Global sizes that DeepSpeed is told: 5, 2 or 1 micro batches of 2 sequences on each of 2 ranks."""
BODY = "tests.distributed.ramp_body"


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """Per config and global size told, loss and gradient norm of each step."""
    [result, other] = run_job(f"{BODY}:ramped", 2, tmp_path_factory.mktemp("ramp"), configs=CONFIGS, global_sizes=TOLD)
    assert result == other
    return result


@pytest.mark.parametrize("number", range(len(CONFIGS)))
@pytest.mark.parametrize("told", [1, 2])
def test_what_deepspeed_was_told_makes_no_difference(curves, number, told):
    for step, (expected, found) in enumerate(zip(curves[number][0], curves[number][told], strict=True)):
        for one, other in zip(expected, found, strict=True):
            assert math.isclose(one, other, rel_tol=1e-6), step


@pytest.mark.parametrize("number", range(1, len(CONFIGS)))
def test_every_stage_makes_the_same_of_it(curves, number):
    """But for the rounding of bf16, which six updates at a high rate amplify."""
    for reference, tolerance in ((0, 5e-2), (1, 1e-2)):
        for expected, found in zip(curves[reference][0], curves[number][0], strict=True):
            for one, other in zip(expected, found, strict=True):
                assert math.isclose(one, other, rel_tol=tolerance)


def test_a_ramp_is_bitwise_the_same_after_a_kill(tmp_path):
    """Killed in the middle of step 4, after a save behind step 3 and a change of both sizes."""
    whole = run_job(f"{BODY}:ramp_run", 2, tmp_path / "whole", configs=CONFIGS, folder_of_runs=str(tmp_path / "none"))
    runs = str(tmp_path / "runs")
    with pytest.raises(AssertionError, match=r"rank \d ended with -?\d"):
        run_job(f"{BODY}:ramp_run", 2, tmp_path / "killed", configs=CONFIGS, folder_of_runs=runs, kill_at=4)
    resumed = run_job(f"{BODY}:ramp_run", 2, tmp_path / "resumed", configs=CONFIGS, folder_of_runs=runs)
    for all_steps, rest in zip(whole[0], resumed[0], strict=True):
        assert rest["first"] == 4
        assert rest["curve"] == all_steps["curve"][4:]
