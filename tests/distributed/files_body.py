"""Body of a job that tells in what memory its training state lies."""

from pathlib import Path
from typing import Any

import torch

from pipeline.engine.checkpoint.fragments import MASTER, fragments, prepare
from pipeline.engine.process_group import ProcessGroup
from pipeline.runtime.ranks import ranks_from_environment
from tests.distributed.training_body import run_config, start, train


def mapped(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each config, after two steps: bytes of weights and moments, and of parameters, in files and in all."""
    group, found = ProcessGroup(ranks_from_environment(), 60), []
    for changes in configs:
        engine = start(run_config(**changes), group)
        prepare(engine)
        train(engine, range(2))
        folder = changes["offload"]["folder"]
        state = [one.view for one in fragments(engine)]
        parts = [one.ds_tensor for one in engine.deepspeed.module.parameters() if hasattr(one, "ds_tensor")]
        found.append({"kinds": sorted({one.kind for one in fragments(engine)} - {MASTER}),
                      "state": _in_files(state, folder), "parameters": _in_files(parts, folder)})  # fmt: skip
        engine.close()
    group.close()
    return found


def _in_files(tensors: list[torch.Tensor], folder: str) -> list[int]:
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if folder in line]
    ends = [tuple(int(end, 16) for end in one[0].split("-")) for one in maps]
    sizes = [tensor.numel() * tensor.element_size() for tensor in tensors]
    mine = [any(first <= tensor.data_ptr() < last for first, last in ends) for tensor in tensors]
    return [sum(size for size, here in zip(sizes, mine, strict=True) if here), sum(sizes)]
