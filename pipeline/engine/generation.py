"""The model of a run that trains, to continue texts with in between."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.engine.engine import Engine
from pipeline.objectives.causal import CausalLoss


@contextmanager
def generating(engine: Engine) -> Iterator[PreTrainedModel]:
    """The model inside the objective, to be called by all ranks equally often: in eval mode and not compiled, since
    each length would be compiled anew. Afterwards it trains on as if nothing had been."""
    objective = engine.deepspeed.module
    assert isinstance(objective, CausalLoss), "only a causal model continues a text"
    engine.deepspeed.eval()
    try:
        with torch.compiler.set_stance("force_eager"), _fetching_by_model(engine, objective.model):
            yield cast(PreTrainedModel, objective.model)
    finally:
        engine.deepspeed.train()


@contextmanager
def _fetching_by_model(engine: Engine, model: nn.Module) -> Iterator[None]:
    """At ZeRO 3 DeepSpeed records in which order a step uses weights, to fetch them ahead, and takes a forward pass
    of the objective for the beginning of a step. Of the model alone it is one, too: else all that is generated would
    pass for the end of the step before."""
    if engine.config.engine.zero_stage < 3:
        yield
        return
    coordinator = engine.deepspeed.optimizer.parameter_offload.get_param_coordinator()
    hook = model.register_forward_pre_hook(lambda module, arguments: coordinator.reset_step())
    try:
        yield
    finally:
        hook.remove()
