"""AdamW with moments of a byte: it learns as AdamW does, and resumes bit by bit from moments that are saved in fp32."""

import pytest

from tests.distributed.jobs import run_job

FULL, BYTES = ({"type": "adamw", "lr": 1e-2, "state_precision": precision} for precision in ("fp32", "8bit"))
STAGES = [
    {"zero_stage": 0, "precision": "fp32"},
    {"zero_stage": 1, "precision": "bf16"},
    {"zero_stage": 2, "precision": "bf16"},
    {"zero_stage": 3, "precision": "bf16"},
    {"zero_stage": 2, "precision": "bf16", "offload": {"optimizer": "cpu"}},
]
CONFIGS = [{**stage, "optimizer": optimizer} for stage in STAGES for optimizer in (BYTES, FULL)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    job = tmp_path_factory.mktemp("eight-bit")
    body = "tests.distributed.training_body:resumed"
    return run_job(body, 2, job / "job", configs=CONFIGS, folder_of_runs=str(job / "runs"))


@pytest.mark.parametrize("number", range(len(STAGES)))
def test_resumed_equals_uninterrupted_and_learns_as_in_full(results, number):
    for result in results:
        small, full = result[2 * number], result[2 * number + 1]
        assert small["resumed"] == small["whole"]
        assert small["whole"] == pytest.approx(full["whole"], rel=5e-3)
        assert number == 0 or small["whole"] != full["whole"]  # matrices alone are too small for it here


def test_each_goes_on_as_the_other(tmp_path):
    """Moments of a byte under another stage and number of ranks, and in full; and those in full as bytes."""
    names = {
        f"{name} {number}": {**STAGES[number], "optimizer": optimizer}
        for name, optimizer in (("bytes", BYTES), ("full", FULL))
        for number in (1, 3)
    }
    body, runs = "tests.distributed.reshard_body", str(tmp_path / "runs")
    saved = run_job(f"{body}:save_all", 2, tmp_path / "save", runs=runs, names=names)[0]
    loaded = run_job(f"{body}:load_all", 1, tmp_path / "load", runs=runs, sources=list(saved), names=names)[0]
    assert len(loaded) == len(names) ** 2
    for pair, losses in loaded.items():
        assert losses == pytest.approx(saved[pair.split(" -> ")[0]], rel=5e-3), pair
