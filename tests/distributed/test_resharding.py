"""A checkpoint of any stage and number of ranks goes on under any other, with the same losses within the precision.

Loading compares each tensor's checksum with the saved one's, so a load that returns has brought them bit by bit; the
losses that follow are compared with those of the run that wrote it.
"""

import pytest

from tests.distributed.jobs import run_job

STAGES = {
    "stage 0": {"zero_stage": 0, "precision": "fp32"},
    "stage 1": {"zero_stage": 1},
    "stage 2": {"zero_stage": 2},
    "stage 3": {"zero_stage": 3},
    "stage 2 offloaded": {"zero_stage": 2, "offload": {"optimizer": "cpu"}},
}
OTHERS = {
    "stage 1 fp32": {"zero_stage": 1, "precision": "fp32"},
    "stage 3 fp32": {"zero_stage": 3, "precision": "fp32"},
    "stage 3 offloaded": {"zero_stage": 3, "offload": {"optimizer": "cpu"}},
}
NEWER = {
    "stage 3": {"zero_stage": 3},
    "stage 3, all offloaded": {"zero_stage": 3, "offload": {"optimizer": "cpu", "parameters": "cpu"}},
    "stage 2 fp16": {"zero_stage": 2, "precision": "fp16"},
    "hpZ": {"zero_stage": 3, "zeropp": {"partition_size": 2}},
}
MUON = {"optimizer": {"type": "muon", "lr": 0.02, "adam_lr": 0.01}}
FORMS = {"frozen": {"frozen": True}, "muon": MUON}
LION = {"optimizer": {"type": "lion", "lr": 2e-3}, "ema": {"decay": 0.9}}
SAVE, LOAD = "tests.distributed.reshard_body:save_all", "tests.distributed.reshard_body:load_all"


def losses_after(folder, configs, save_with, load_with):
    """Losses of two steps after each load, beside those of the run that was saved, by what was saved and loaded."""
    return losses_between(folder, dict.fromkeys(save_with, configs), dict.fromkeys(load_with, configs))


def losses_between(folder, saving, loading):
    """The same, of other configurations for each number of ranks."""
    saved = {}
    for world, configs in saving.items():
        names = {f"{name} on {world}": changes for name, changes in configs.items()}
        saved |= run_job(SAVE, world, folder / f"save-{world}", runs=str(folder / "runs"), names=names)[0]
    found = {}
    for world, configs in loading.items():
        job = folder / f"load-{world}"
        loaded = run_job(LOAD, world, job, runs=str(folder / "runs"), sources=list(saved), names=configs)[0]
        for pair, losses in loaded.items():
            found[f"{pair} on {world}"] = (losses, saved[pair.split(" -> ")[0]])
    return found


def require_alike(found):
    assert found
    for pair, (losses, expected) in found.items():
        assert losses == pytest.approx(expected, rel=5e-3), pair
        assert len({round(loss, 6) for loss in losses}) == 2


@pytest.mark.timeout(900)
def test_every_stage_goes_on_under_every_other_on_one_two_and_four_ranks(tmp_path):
    found = losses_after(tmp_path, STAGES, (1, 2, 4), (1, 2, 4))
    assert len(found) == (3 * len(STAGES)) ** 2
    require_alike(found)
    for name in STAGES:  # the same stage and ranks: bit by bit
        losses, expected = found[f"{name} on 2 -> {name} on 2"]
        assert losses == expected


@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", FORMS)
def test_frozen_weights_and_muon_go_on_under_every_other_stage(tmp_path, form):
    configs = {name: {**changes, **FORMS[form]} for name, changes in STAGES.items()}
    require_alike(losses_after(tmp_path, configs, (2,), (1, 2)))


@pytest.mark.timeout(600)
def test_lion_and_an_average_of_the_weights_go_on_under_other_stages(tmp_path):
    configs = {name: STAGES[name] | LION for name in ("stage 0", "stage 1", "stage 2", "stage 3")}
    require_alike(losses_after(tmp_path, configs, (1, 2), (1, 2)))


@pytest.mark.timeout(600)
def test_ranks_that_share_layers_go_on_as_ranks_that_do_not_and_back(tmp_path):
    """Their matrices are cut by rows and by columns, and ZeRO cuts the parts again: anywhere in a row."""
    shared = {name: {**STAGES[name], "tensor_parallel": 2} for name in ("stage 0", "stage 1", "stage 2")}
    worlds = {1: {"stage 3": STAGES["stage 3"]}, 2: shared, 4: {"stage 2": shared["stage 2"]}}
    found = losses_between(tmp_path, worlds, worlds)
    assert len(found) == 5**2
    require_alike(found)


@pytest.mark.timeout(600)
def test_single_precision_and_offload_go_on_under_each_other(tmp_path):
    require_alike(losses_after(tmp_path, OTHERS, (1, 2), (2,)))


def test_fp16_offloaded_parameters_and_copies_by_node_go_on_under_each_other(tmp_path):
    require_alike(losses_after(tmp_path, NEWER, (2,), (2,)))
