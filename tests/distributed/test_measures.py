"""What the engine measures of a step, at every ZeRO stage on two ranks."""

import pytest

from tests.distributed.jobs import run_job

CONFIGS = [
    *[{"zero_stage": stage, "precision": "fp32"} for stage in (0, 1, 2, 3)],
    *[{"zero_stage": stage, "precision": "bf16"} for stage in (1, 3)],
    {"zero_stage": 3, "precision": "fp32", "hidden_size": 384},
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By rank and config."""
    return run_job("tests.distributed.measures_body:measured", 2, tmp_path_factory.mktemp("measures"), configs=CONFIGS)


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_rows_add_up_to_the_loss_and_empty_ones_have_none(results, number):
    for rank, result in enumerate(results):
        rows = result[number]["rows"]
        assert sum(rows) == pytest.approx(result[number]["loss"], rel=1e-6)
        assert [row == 0 for row in rows] == [rank == 1 and place < 2 for place in range(4)]


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_the_norm_of_partitions_is_that_of_whole_weights(results, number):
    relative = 1e-6 if CONFIGS[number]["precision"] == "fp32" else 5e-3  # masters are not rounded to bf16
    for result in results:
        assert result[number]["norm"] == pytest.approx(result[number]["whole_norm"], rel=relative)
        assert result[number]["norm"] == results[0][number]["norm"]


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_parts_of_a_step_are_within_it(results, number):
    for result in results:
        parts = result[number]["parts"]
        assert min(parts.values()) > 0
        assert parts["communication"] < parts["backward"]
        assert parts["forward"] + parts["backward"] + parts["optimizer"] < result[number]["seconds"]


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_rehearsal_and_generation_leave_no_trace(results, number):
    for result in results:
        assert len(result[number]["written"]) == 4
        assert result[number]["written"] == results[0][number]["written"]
        assert result[number]["rehearsed"] == result[number]["plain"]
        assert len(set(result[number]["plain"])) == 4
