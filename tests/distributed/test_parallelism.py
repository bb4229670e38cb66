"""Ranks that share sequences or layers learn what ranks do that share nothing."""

import math

import pytest

from tests.distributed.jobs import run_job

PLAIN = {"zero_stage": 1, "precision": "fp32", "attention": "sdpa"}
PACKED = {**PLAIN, "packs": True}
GPT2 = {**PACKED, "model": {"type": "gpt2"}}
ALONE = [PLAIN, PACKED, {**PACKED, "precision": "bf16"}, GPT2]
SEQUENCE = [
    {**PLAIN, "sequence_parallel": 2},
    {**PLAIN, "sequence_parallel": 2, "zero_stage": 2, "recompute": "full"},
    {**PACKED, "sequence_parallel": 2, "compile": True},
    {**PACKED, "sequence_parallel": 2, "zero_stage": 3},
    {**PACKED, "sequence_parallel": 2, "zero_stage": 2, "precision": "bf16"},
    {**PACKED, "sequence_parallel": 2, "attention": "documents"},
    {**GPT2, "sequence_parallel": 2},
]
TENSOR = [
    {**PLAIN, "tensor_parallel": 2, "zero_stage": 0},
    {**PLAIN, "tensor_parallel": 2, "attention": "eager"},
    {**PACKED, "tensor_parallel": 2, "zero_stage": 2, "recompute": "full"},
    {**PACKED, "tensor_parallel": 2, "zero_stage": 2, "offload": {"optimizer": "cpu"}},
    {**PACKED, "tensor_parallel": 2, "precision": "bf16"},
]
FOUR_RANKS = [{**PACKED, "sequence_parallel": 2}, {**PACKED, "sequence_parallel": 4}]
KIND = ("packs", "precision", "model")
"""Keys by which a run that shares nothing is its like."""
BODY = "tests.distributed.parallel_body:curves"
TOLERANCE = {"fp32": {"loss": 1e-5, "norm": 1e-5}, "bf16": {"loss": 5e-3, "norm": 2e-2}}
JOBS = {"alone": (1, ALONE), "sequence": (2, SEQUENCE), "tensor": (2, TENSOR), "four": (4, FOUR_RANKS)}
CASES = [(job, number, config) for job, (_, configs) in JOBS.items() for number, config in enumerate(configs)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Per job and config, what was measured. AutoTP's groups hold for a process: its runs have a job of their own."""
    return {
        job: run_job(BODY, world_size, tmp_path_factory.mktemp(job), configs=configs)[0]
        for job, (world_size, configs) in JOBS.items()
    }


@pytest.mark.parametrize(("job", "number", "config"), CASES[len(ALONE) :])
def test_ranks_that_share_train_as_one_rank_does(results, job, number, config):
    kind = next(kind for kind, one in enumerate(ALONE) if all(config.get(key) == one.get(key) for key in KIND))
    plain, shared = results["alone"][kind], results[job][number]
    tolerance = TOLERANCE[config["precision"]]
    assert shared["tokens"] == plain["tokens"]
    for name in ("loss", "norm"):
        for one, other in zip(shared[name], plain[name], strict=True):
            assert math.isclose(one, other, rel_tol=tolerance[name]), name
    assert math.isclose(shared["held_out"], plain["held_out"], rel_tol=tolerance["loss"])


def test_pieces_are_kept_apart(results):
    plain, packed, *_ = results["alone"]
    assert not math.isclose(plain["norm"][0], packed["norm"][0], rel_tol=1e-2)
