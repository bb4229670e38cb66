"""An average of the weights: what its formula says, at every stage; it is saved, resumed and measured."""

import pytest

from tests.distributed.jobs import run_job

LION = {"optimizer": {"type": "lion", "lr": 2e-3, "decay_embeddings": False}}
EMA = {"ema": {"decay": 0.5}}
CONFIGS = [
    {"zero_stage": 0, "precision": "fp32", **LION, **EMA},
    {"zero_stage": 1, "precision": "bf16", **LION, **EMA},
    {"zero_stage": 2, "precision": "bf16", **EMA},
    {"zero_stage": 2, "precision": "bf16", "offload": {"optimizer": "cpu"}, **LION, **EMA},
    {"zero_stage": 3, "precision": "bf16", **LION, **EMA},
]
NAMES = [f"stage {one['zero_stage']}{' offloaded' if 'offload' in one else ''}" for one in CONFIGS]
BODY = "tests.distributed.average_body"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("average")
    return run_job(f"{BODY}:averages", 2, folder / "job", configs=CONFIGS, runs=str(folder / "runs"))


@pytest.fixture(params=range(len(CONFIGS)), ids=NAMES)
def found(request, results):
    """What each rank found with one config."""
    return [result[request.param] for result in results]


def test_it_is_what_the_formula_says_of_the_masters(found):
    assert max(one["gap"] for one in found) < 1e-6


def test_resumed_equals_uninterrupted_and_looked_at(found):
    for one in found:
        assert one["same"]  # the weights after a look at the average are those before it
        assert one["whole"] == one["resumed"]
        assert len(set(one["whole"][0])) == 2


def test_its_loss_is_measured_in_the_loop_and_outside(found):
    trained, inside, outside = found[0]["losses"]
    assert inside == outside
    assert inside != trained


def test_a_run_may_begin_with_it_later(tmp_path):
    for one in run_job(f"{BODY}:turned_on", 2, tmp_path / "job", group_runs=str(tmp_path / "runs")):
        assert one["alike"]
        assert all(one["alike"])
