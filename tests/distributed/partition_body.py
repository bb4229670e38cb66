"""Bodies that look at what a rank holds while a model is built and filled in."""

import ctypes
from pathlib import Path
from typing import Any

import torch

from pipeline.config.model import LlamaModel, LoraAdapter
from pipeline.engine.checkpoint.fragments import fragments
from pipeline.engine.checkpoint.layout import FROZEN, MASTER, OBJECTIVE_PREFIX, Fragment
from pipeline.engine.engine import Engine
from pipeline.engine.filling import fill
from pipeline.engine.partition import partitioned
from pipeline.engine.process_group import ProcessGroup
from pipeline.models.adapters import adapted_weights, add_lora
from pipeline.models.build import empty_model, num_parameters
from pipeline.models.forms import decoder_config
from pipeline.models.initialization import initial_weights
from pipeline.models.weights import Weights
from pipeline.objectives.causal import CausalLoss
from pipeline.runtime.ranks import ranks_from_environment
from tests.distributed.training_body import VOCABULARY, run_config, train

FORM = LlamaModel(
    type="llama", hidden_size=1024, intermediate_size=4096, num_layers=3, num_heads=8, num_key_value_heads=8
)
"""200 MB in fp32, its largest tensor 17 MB."""


_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of mallopt(3)."""


class Peak:
    """The most memory this process has had since it was begun, beyond what it had then."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak
        self._base = _status("VmRSS")

    @property
    def bytes(self) -> int:
        return _status("VmHWM") - self._base


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def peaks() -> dict[str, int]:
    """At ZeRO 3, in bytes: the whole model in fp32, what this rank holds of it once it is built, and the most
    that building it and filling it took beyond what was there before."""
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 20)  # what is freed is gone, and not kept for later
    group = ProcessGroup(ranks_from_environment(), 60)
    config, peak = run_config(zero_stage=3, precision="fp32"), Peak()
    with partitioned(config, group):
        model = empty_model(decoder_config(FORM, 64, eos_id=0, pad_id=0), "fp32", "eager")
    held = sum(getattr(one, "ds_tensor", one).nbytes for one in model.parameters())
    result = {"whole": 4 * num_parameters(model), "held": held, "building": peak.bytes}
    engine = Engine(CausalLoss(model), config, group)
    peak = Peak()
    fill(engine, initial_weights(model, 0))
    result["filling"], peak = peak.bytes, Peak()
    torch.ones(result["whole"] // 4)
    result["seen of a whole one"] = peak.bytes
    group.close()
    return result


def low_rank(stages: list[int]) -> list[dict[str, Any]]:
    """Of each stage: losses of a model with low-rank updates, and which of its weights moved."""
    group, found = ProcessGroup(ranks_from_environment(), 60), []
    for stage in stages:
        config = run_config(zero_stage=stage, precision="fp32")
        with partitioned(config, group):
            inner = empty_model(decoder_config(config.model, VOCABULARY, eos_id=0, pad_id=0), "fp32", "eager")
            base = initial_weights(inner, config.seed)
            model = add_lora(inner, LoraAdapter(type="lora", rank=3), config.seed)
        engine = Engine(CausalLoss(model), config, group)
        weights = adapted_weights(model, base, config.seed)
        fill(engine, weights)
        losses = train(engine, range(3))
        moved = sorted(
            {one.name for one in fragments(engine) if one.kind in (MASTER, FROZEN) and differs(one, weights)}
        )
        found.append({"losses": losses, "moved": moved})
        engine.close()
    group.close()
    return found


def differs(one: Fragment, weights: Weights) -> bool:
    """Whether this rank's part of a weight is another than that of some weights."""
    whole = weights.read(one.name.removeprefix(OBJECTIVE_PREFIX)).view(-1)
    return not torch.equal(one.view, whole[one.start : one.start + one.view.numel()])
