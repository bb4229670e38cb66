"""The first program of a rank that was started over ssh, up to where it becomes the job's own command."""

import os
import sys
from typing import Any

import pytest

from launch import remote
from launch.hostfile import encoded
from launch.plan import Job


@pytest.mark.parametrize(
    ("gpus", "given", "accelerator"),
    [(0, {}, "cpu"), (4, {}, None), (4, {"DS_ACCELERATOR": "cpu"}, "cpu"), (0, {"DS_ACCELERATOR": "cuda"}, "cuda")],
)
def test_a_rank_looks_for_gpus_where_it_is(
    gpus: int, given: dict[str, str], accelerator: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[Any] = []
    environment: dict[str, str] = {"TORCH_EXTENSIONS_DIR": "/mine"}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os, "execv", lambda *words: became.append(words))
    monkeypatch.setattr(remote, "num_gpus", lambda: gpus)
    monkeypatch.setattr(sys, "argv", ["remote", encoded(Job("pretrain", "it's.yaml"), {"A": "$B", **given})])
    remote.main()
    assert became == [(sys.executable, [sys.executable, "-u", "-m", "pipeline.cli", "train", "it's.yaml"])]
    assert environment.pop("DS_ACCELERATOR", None) == accelerator
    assert environment == {"TORCH_EXTENSIONS_DIR": "/mine", "A": "$B"}
