"""Training state in files: bit by bit what it is in host memory, whatever stage, optimizer and resume."""

import resource

import pytest
import torch

from pipeline.engine.files import Files
from pipeline.errors import RunError
from tests.distributed.jobs import run_job

LION, MUON = {"type": "lion", "lr": 1e-3}, {"type": "muon", "lr": 0.02}
WAYS = [
    {"zero_stage": 1, "precision": "fp32"},
    {"zero_stage": 2, "precision": "bf16"},
    {"zero_stage": 2, "precision": "bf16", "optimizer": MUON},
    {"zero_stage": 2, "precision": "bf16", "optimizer": LION},
    {"zero_stage": 3, "precision": "bf16", "parameters": True},
    {"zero_stage": 3, "precision": "fp32", "parameters": True},
    {"zero_stage": 3, "precision": "bf16"},
]


def offloaded(to: str, **more: str) -> list[dict[str, object]]:
    configs = []
    for way in WAYS:
        engine = {name: value for name, value in way.items() if name != "parameters"}
        parameters = {"parameters": to} if "parameters" in way else {}
        configs.append({**engine, "offload": {"optimizer": to, **parameters, **more}})
    return configs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("disk") / "not" / "there"


@pytest.fixture(scope="module")
def found(tmp_path_factory, folder):
    job, body = tmp_path_factory.mktemp("files"), "tests.distributed.training_body:resumed"
    configs = [*offloaded("cpu"), *offloaded("nvme", folder=str(folder))]
    return run_job(body, 2, job, configs=configs, folder_of_runs=str(job / "runs"))[0]


@pytest.mark.parametrize("number", range(len(WAYS)), ids=map(str, WAYS))
def test_it_is_what_it_is_in_memory(found, number):
    in_memory, in_files = found[number], found[len(WAYS) + number]
    assert in_files == in_memory
    assert in_files["resumed"] == in_files["whole"]


def test_all_of_it_is_in_files_of_which_nothing_is_left(tmp_path, folder):
    configs = offloaded("nvme", folder=str(folder))
    for rank in run_job("tests.distributed.files_body:mapped", 2, tmp_path, configs=configs):
        for way, one in zip(WAYS, rank, strict=True):
            assert one["kinds"]
            assert one["state"][0] == one["state"][1] > 0
            held, whole = one["parameters"]
            assert held == (whole if "parameters" in way else 0)
    assert list(folder.iterdir()) == []


def test_a_disk_without_room_is_told(tmp_path):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        with pytest.raises(
            RunError, match=r"engine\.offload\.folder \(.*\) does not take 0\.008 GB more: .*; free space"
        ):
            Files(str(tmp_path), 0).zeros(torch.empty(2_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert list(tmp_path.iterdir()) == []
