"""A rank that is slow by itself: its own time tells it from those that wait for it, and it is named with its host."""

import socket

import pytest

from pipeline.train.hooks.stragglers import slowest
from tests.distributed.jobs import run_job

SLOW, SECONDS, NUM_STEPS = 1, 0.25, 5
"""The slow rank, and how long its data and each of its two forward passes of a step take."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    arguments = {"slow": SLOW, "seconds": SECONDS, "num_steps": NUM_STEPS, "run_folder": str(folder)}
    return run_job("tests.distributed.straggler_body:one_slow_rank", 2, folder, **arguments)


def test_own_time_leaves_out_waiting_for_others(results):
    other = 1 - SLOW
    assert len(results[0]["own"]) == NUM_STEPS
    assert min(results[SLOW]["own"]) >= 3 * SECONDS
    assert min(results[other]["whole"]) >= 3 * SECONDS
    assert max(results[other]["own"][1:]) < 2 * SECONDS


def test_the_slow_rank_is_logged_and_named(results):
    steps = [step for step, _ in results[0]["rows"]]
    assert steps == [2, 4, 5]
    for _, row in results[0]["rows"]:
        assert row["perf/slowest_rank"] == SLOW
        assert row["perf/slowest_rank_ratio"] > 1.5
    for step, line in zip(steps, results[0]["warnings"], strict=True):
        assert line.startswith(f"step {step}: rank {SLOW} on host {socket.gethostname()} is slow")


def test_what_each_rank_spent_is_in_a_file_of_its_own(results):
    own = [results[rank]["own"] for rank in (0, 1)]
    assert [row["step"] for row in results[0]["ranks"]] == [2, 4, 5]
    for rank in (0, 1):
        means = [own[rank][1], sum(own[rank][2:4]) / 2, own[rank][4]]
        assert [row["own_seconds"][rank] for row in results[0]["ranks"]] == pytest.approx(means, abs=1e-5)


def test_only_rank_0_tells(results):
    assert results[1]["rows"] == results[1]["warnings"] == []


@pytest.mark.parametrize(
    ("seconds", "found"),
    [([2, 6], (1, 3)), ([6, 2, 4], (0, 2)), ([2, 3, 8, 2, 4], (2, 3.2)), ([1, 1], (0, 1))],
)
def test_the_slowest_is_compared_with_the_median_of_the_others(seconds, found):
    assert slowest(seconds) == found
