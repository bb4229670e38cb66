"""Offload, ZeRO++, fp16 and fp8: they train as the plain ones do, and go on from a checkpoint bit by bit."""

import pytest

from tests.distributed.jobs import run_job

OFFLOADED = {"optimizer": "cpu", "parameters": "cpu"}
FORMS = [
    {},
    {"offload": {"parameters": "cpu"}},
    {"offload": OFFLOADED},
    {"zeropp": {"partition_size": 2}},
    {"zeropp": {"partition_size": 2}, "offload": OFFLOADED},
]
"""Of stage 3. ZeRO++ comes last: DeepSpeed keeps its groups of ranks for later engines of the same process."""
FP16 = [{"zero_stage": stage, "precision": "fp16"} for stage in (1, 2, 3)]
CONFIGS = FP16 + [{"zero_stage": 3, "precision": name, **form} for form in FORMS for name in ("bf16", "fp32")]
PLAIN = {"fp16": 3, "bf16": 3, "fp32": 4}
"""Which of them one of some precision is compared with."""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forms")
    body = "tests.distributed.training_body:resumed"
    return run_job(body, 2, folder, configs=CONFIGS, folder_of_runs=str(folder / "runs"))[0]


@pytest.mark.parametrize("number", range(len(CONFIGS)), ids=map(str, CONFIGS))
def test_losses_are_those_of_the_plain_stage_and_a_resume_repeats_them(found, number):
    precision = CONFIGS[number]["precision"]
    relative = 1e-5 if precision == "fp32" else 5e-3
    assert found[number]["whole"] == pytest.approx(found[PLAIN[precision]]["whole"], rel=relative)
    assert found[number]["resumed"] == found[number]["whole"]
    assert len(set(found[number]["whole"])) == 2


def test_a_loss_scale_falls_until_nothing_overflows_and_is_kept_in_checkpoints(tmp_path):
    """Skipped updates by which it falls end no run; a resumed one falls on where the first one was."""
    body, runs = "tests.distributed.precision_body:falling", str(tmp_path / "runs")
    for results in run_job(body, 2, tmp_path, stages=[1, 2, 3], scale=2.0**26, folder_of_runs=runs):
        for result in results:
            steps = result["before"] + result["whole"]
            fallen = [step["skipped"] for step in steps]
            number = fallen.index(False)
            assert 4 < number < 12
            assert fallen == [True] * number + [False] * (12 - number)
            assert [step["rescaled"] for step in steps] == fallen
            assert [step["scale"] for step in steps[1:number]] == [2.0 ** (26 - n) for n in range(1, number)]
            assert len({step["scale"] for step in steps[number:]}) == 1
            assert all(0 < step["norm"] < 100 for step in steps[number:])
            assert result["resumed"] == result["whole"]
            assert result["same weights"]


def test_products_in_fp8_learn_as_those_in_bf16(tmp_path):
    for result in run_job("tests.distributed.precision_body:eight_bits", 2, tmp_path, stages=[2, 3], num_steps=8)[0]:
        assert len(result["layers"]) == 2 * 7
        assert not any("lm_head" in name for name in result["layers"])
        assert result["fp8"] != result["bf16"]
        assert result["fp8"] == pytest.approx(result["bf16"], rel=0.02)
        assert result["fp8"][-1] < result["fp8"][0]
