"""Building a model that no rank could hold: each holds its part from the beginning, and weights come one by one."""

import pytest

from tests.distributed.jobs import run_job

BODY = "tests.distributed.partition_body"


def test_no_rank_ever_holds_the_whole_model_at_stage_three(tmp_path):
    for found in run_job(f"{BODY}:peaks", 2, tmp_path):
        whole = found["whole"]
        assert whole > 200e6
        assert found["held"] == pytest.approx(whole / 2, rel=1e-3)
        assert found["building"] < 0.8 * whole < found["seen of a whole one"]
        assert found["filling"] < 0.4 * whole


def test_low_rank_updates_of_a_partitioned_model_learn_as_those_of_a_whole_one(tmp_path):
    ranks = run_job(f"{BODY}:low_rank", 2, tmp_path, stages=[3, 2])
    three, two = ranks[0]
    assert three["losses"] == pytest.approx(two["losses"], rel=1e-5)
    assert len(set(three["losses"])) == 3
    for stage in (0, 1):
        moved = {name for rank in ranks for name in rank[stage]["moved"]}
        assert len(moved) == 2 * 2 * 7
        assert all("lora_" in name for name in moved)
