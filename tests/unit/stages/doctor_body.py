"""Body of a job of one rank: how large checkpoints really are, and what is foretold of them."""

from pathlib import Path
from typing import Any

import torch

from pipeline.config.model import LoraAdapter
from pipeline.engine.checkpoint.fragments import prepare
from pipeline.engine.checkpoint.saving import Saver
from pipeline.engine.engine import Engine
from pipeline.engine.process_group import ProcessGroup
from pipeline.models.adapters import add_lora
from pipeline.models.build import empty_model, fresh_model
from pipeline.models.forms import decoder_config
from pipeline.objectives.causal import CausalLoss
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.stages.doctor.checkpoints import checkpoint_bytes
from pipeline.stages.doctor.trial import compared
from tests.distributed.training_body import VOCABULARY, run_config

ADAPTER = LoraAdapter(type="lora", rank=3)


def sizes(cases: list[dict[str, Any]]) -> list[dict[str, int]]:
    """Of each case: bytes that a saver counts, and bytes of weights and moments that are foretold."""
    group, found = ProcessGroup(ranks_from_environment(), 60), []
    for case in cases:
        has_adapter = case.pop("adapter", False)
        config = run_config(**case)
        form = decoder_config(config.model, VOCABULARY, eos_id=0, pad_id=0)
        model: torch.nn.Module = fresh_model(form, 3, "fp32", "eager")
        with torch.device("meta"):
            plan: torch.nn.Module = empty_model(form, "fp32", "eager")
        if has_adapter:
            model, plan = add_lora(model, ADAPTER, 3), add_lora(plan, ADAPTER, 3)
        engine = Engine(CausalLoss(model), config, group)
        prepare(engine)
        saver = Saver(engine, Path("unused"), exclude_frozen=has_adapter)
        weights, moments = checkpoint_bytes(config, plan)
        found.append({"saved": saver.num_bytes, "weights": weights, "moments": moments})
        saver.close()
        engine.close()
    group.close()
    return found


def tried(sizes: list[list[int]], engines: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Of each size and engine: bytes that a step is foretold to take, and those it takes."""
    group, found = ProcessGroup(ranks_from_environment(), 60), []
    for width, layers, vocab_size in sizes:
        model = {"hidden_size": width, "intermediate_size": 3 * width, "num_layers": layers, "max_positions": 512}
        for engine in engines:
            config = run_config(model=model, **engine)
            data = config.data.model_copy(update={"sequence_length": 512})
            config = config.model_copy(update={"data": data})
            form = decoder_config(config.model, vocab_size, eos_id=0, pad_id=0)
            found.append(compared(config, form, vocab_size, group)[:2])
    group.close()
    return found
