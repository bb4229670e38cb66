"""Ranks that share sequences learn what ranks do that share nothing."""

import math

import pytest

from tests.distributed.jobs import run_job

PLAIN = {"zero_stage": 1, "precision": "fp32", "attention": "sdpa"}
PACKED = {**PLAIN, "packs": True}
SEQUENCE = [
    {**PLAIN, "sequence_parallel": 2},
    {**PLAIN, "sequence_parallel": 2, "zero_stage": 2, "recompute": "full"},
    {**PACKED, "sequence_parallel": 2, "compile": True},
    {**PACKED, "sequence_parallel": 2, "zero_stage": 3},
    {**PACKED, "sequence_parallel": 2, "zero_stage": 2, "precision": "bf16"},
]
FOUR_RANKS = [{**PACKED, "sequence_parallel": 2}, {**PACKED, "sequence_parallel": 4}]
BODY = "tests.distributed.parallel_body:curves"
TOLERANCE = {"fp32": 1e-5, "bf16": 5e-3}
CASES = [(2, number, config) for number, config in enumerate(SEQUENCE)]
CASES += [(4, number, config) for number, config in enumerate(FOUR_RANKS)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Per number of ranks and config, what was measured; one rank has the plain runs."""
    jobs = {1: [PLAIN, PACKED], 2: SEQUENCE, 4: FOUR_RANKS}
    return {
        world_size: run_job(BODY, world_size, tmp_path_factory.mktemp(f"world{world_size}"), configs=configs)[0]
        for world_size, configs in jobs.items()
    }


@pytest.mark.parametrize(("world_size", "number", "config"), CASES)
def test_ranks_that_share_train_as_one_rank_does(results, world_size, number, config):
    plain, shared = results[1]["packs" in config], results[world_size][number]
    tolerance = TOLERANCE[config["precision"]]
    assert shared["tokens"] == plain["tokens"]
    for name in ("loss", "norm"):
        for one, other in zip(shared[name], plain[name], strict=True):
            assert math.isclose(one, other, rel_tol=tolerance), name
    assert math.isclose(shared["held_out"], plain["held_out"], rel_tol=tolerance)


def test_pieces_are_kept_apart(results):
    plain, packed = results[1]
    assert not math.isclose(plain["norm"][0], packed["norm"][0], rel_tol=1e-2)
