"""A loss or gradient that is not finite on one rank: no update on any, nothing left of it, an end after too many."""

import json
import math

import pytest

from tests.distributed.jobs import run_job
from tests.distributed.nonfinite_body import BREAKS

MUON = {"optimizer": {"type": "muon", "lr": 0.02, "adam_lr": 0.01}}
LION = {"optimizer": {"type": "lion", "lr": 2e-3}, "ema": {"decay": 0.9}}
UNCLIPPED = {"gradient_clipping": 0}
OFFLOADED = {"offload": {"optimizer": "cpu"}}
FORMS = [(0, "fp32"), (1, "bf16"), (1, "fp32"), (2, "bf16"), (2, "fp32"), (3, "bf16"), (3, "fp32")]
CHOSEN = [
    *[(form, changes) for form in FORMS for changes in ({}, MUON)],
    *[(form, UNCLIPPED) for form in FORMS if form[1] == "bf16"],
    *[((1, "bf16"), OFFLOADED | changes) for changes in (UNCLIPPED, MUON)],
    *[((2, "fp32"), OFFLOADED | changes) for changes in ({}, MUON)],
    ((2, "bf16"), OFFLOADED),
    *[(form, LION) for form in ((0, "fp32"), (1, "bf16"), (2, "bf16"), (3, "bf16"))],
    ((3, "bf16"), OFFLOADED | MUON),
    *[((stage, "fp16"), {}) for stage in (1, 2, 3)],
    ((2, "fp16"), OFFLOADED),
    ((3, "fp16"), MUON),
]
TENSOR = [(form, {"tensor_parallel": 2}) for form in ((0, "fp32"), (1, "bf16"), (2, "fp32"))]
CONFIGS = [{"zero_stage": stage, "precision": precision} | changes for (stage, precision), changes in CHOSEN + TENSOR]
MOST = 3
"""Skipped updates in a row that are borne."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By rank; Muon's orthogonalisation is not compiled, which takes 10 s for each form of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHDYNAMO_DISABLE", "1")
        folder = tmp_path_factory.mktemp("nonfinite")
        body = "tests.distributed.nonfinite_body:broken"
        found = run_job(body, 2, folder, configs=CONFIGS[: len(CHOSEN)], most=MOST)
        layers = run_job(f"{body}_layers", 2, folder / "layers", configs=CONFIGS[len(CHOSEN) :])
    return [{**one, **{name: one[name] + more[name] for name in more}} for one, more in zip(found, layers, strict=True)]


@pytest.fixture(params=range(len(CONFIGS)), ids=[str(config) for config in CONFIGS])
def number(request):
    return request.param


def test_all_ranks_skip_alike(results, number):
    for result in results:
        skipped = [outcome["skipped"] for outcome in result["broken"][number]]
        assert skipped == [True, False, *[True] * len(BREAKS), False]
        assert not any(outcome["skipped"] for outcome in result["whole"][number])


@pytest.mark.parametrize("rank", [0, 1])
def test_a_skipped_step_changes_nothing(results, number, rank):
    first, good, *skipped, last = results[rank]["broken"][number]
    assert {outcome["state"] for outcome in skipped} == {good["state"]}
    assert len({outcome["state"] for outcome in (first, good, last)}) == 3
    assert {outcome["norm"] for outcome in (first, *skipped)} == {None}


@pytest.mark.parametrize("rank", [0, 1])
def test_steps_between_broken_ones_are_what_they_were_without(results, number, rank):
    _, good, *_, last = results[rank]["broken"][number]
    for outcome, whole in zip((good, last), results[rank]["whole"][number], strict=True):
        if CONFIGS[number]["precision"] == "fp16":  # its loss scale has fallen since: what it rounds is other digits
            assert outcome["loss"] == whole["loss"]
            assert outcome["norm"] == pytest.approx(whole["norm"], rel=5e-3)
        else:
            assert outcome == whole
        assert math.isfinite(float(outcome["loss"]))
        assert outcome["norm"] > 0


def test_every_weight_learns(results, number):
    """DeepSpeed loses gradients of weights beside Muon's at stage 2 unless it is told otherwise."""
    moved = [result["whole"][number][0]["moved"] for result in results]
    assert all(any(ranks) for ranks in zip(*moved, strict=True))


def test_too_many_in_a_row_end_the_run_on_all_ranks(results):
    for result in results:
        error = result["loop"]["error"]
        assert error["exit_code"] == 1
        assert error["on_all_ranks"]
        assert f"{MOST + 1} updates in a row up to step {5 + MOST} were skipped" in error["text"]
        assert f"read the documents of step {5 + MOST}; `tarmac explain runs/broken --step {5 + MOST}`" in error["text"]
        assert "the gradient is not finite" in error["text"]


def test_a_batch_that_cannot_be_named_does_not_hide_why_it_ends(results):
    for result in results:
        assert "the loss of rank 1 is not finite" in result["loop"]["unnamed"]["text"]
        assert "(the shard is gone)" in result["loop"]["unnamed"]["text"]


def test_each_skipped_step_is_told_once(results):
    warnings = [[line for line in result["loop"]["warnings"] if "update skipped" in line] for result in results]
    assert [line.partition(";")[0] for line in warnings[0]] == [
        "step 2: update skipped, the loss of rank 1 is not finite",
        "step 3: update skipped, the gradient is not finite",
        *[f"step {5 + n}: update skipped, the loss of rank 0 is not finite" for n in range(MOST)],
    ]
    assert warnings[1] == []


def test_rows_leave_skipped_steps_out(results):
    rows = dict(results[0]["loop"]["rows"])
    assert [rows[step]["train/skipped_updates"] for step in (2, 4, 6, 8)] == [1, 2, 4, 6]
    assert [rows[step]["train/loss"] is None for step in (2, 4, 6, 8)] == [False, False, True, True]
    assert [rows[step]["train/gradient_norm"] is None for step in (2, 4, 6, 8)] == [True, False, True, True]
    assert rows[4]["train/tokens"] == 2 * rows[2]["train/tokens"] == rows[8]["train/tokens"]
    assert 4 < rows[4]["train/loss"] < rows[2]["train/loss"] < 4.3
    json.dumps(rows, allow_nan=False)
    totals = [result["loop"]["totals"] for result in results]
    assert totals[0] == totals[1]
    assert (totals[0]["skipped_updates"], totals[0]["skipped_in_a_row"]) == (3 + MOST, 1 + MOST)
