"""Bytes of the optimizer's state by what the optimizer keeps."""

import pytest
import torch

from pipeline.config.model import LoraAdapter
from pipeline.engine.memory import estimate_memory, estimate_model, without_offloaded
from pipeline.models.adapters import add_lora
from pipeline.models.build import empty_model, num_parameters
from pipeline.models.forms import decoder_config
from tests.distributed.training_body import run_config

ADAMW, LION = {"type": "adamw", "lr": 1e-3}, {"type": "lion", "lr": 1e-3}


@pytest.mark.parametrize(("changes", "stage_one", "stage_zero"), [
    ({"optimizer": ADAMW}, 12, 8),
    ({"optimizer": {**ADAMW, "state_precision": "8bit"}}, 6, 2),
    ({"optimizer": LION}, 8, 4),
    ({"optimizer": ADAMW, "ema": {"decay": 0.9}}, 16, 12),
])  # fmt: skip
def test_bytes_of_the_optimizer_by_parameter(changes, stage_one, stage_zero):
    plain = run_config(zero_stage=0, precision="fp32", **changes)
    shared = run_config(zero_stage=1, **changes)
    assert estimate_memory(plain, 1000, 2).optimizer == 1000 * stage_zero
    assert estimate_memory(shared, 1000, 2).optimizer == 500 * stage_one


def test_frozen_weights_take_their_own_memory_only():
    config = run_config(zero_stage=2)
    with torch.device("meta"):
        model = empty_model(decoder_config(config.model, 64, 2, 3), "fp32", "eager")
    adapted = add_lora(model, LoraAdapter(type="lora", rank=2), 0)
    trained, frozen = num_parameters(adapted, trainable_only=True), num_parameters(model)
    estimate = estimate_model(config, adapted, 2)
    assert estimate.parameters == 2 * (num_parameters(adapted))
    assert (estimate.gradients, estimate.optimizer) == (4 * trained // 2, 12 * trained // 2)
    assert trained < frozen


@pytest.mark.parametrize(("offload", "is_gpu", "left"), [
    ({}, True, (2, 4, 12)),
    ({"optimizer": "cpu"}, True, (2, 0, 0)),
    ({"optimizer": "cpu"}, False, (2, 4, 12)),
    ({"optimizer": "nvme", "parameters": "cpu", "folder": "/disk"}, True, (0, 0, 0)),
    ({"optimizer": "nvme", "parameters": "cpu", "folder": "/disk"}, False, (2, 4, 0)),
])  # fmt: skip
def test_what_is_offloaded_is_not_on_the_device(offload, is_gpu, left):
    config = run_config(zero_stage=3, offload=offload)
    estimate = without_offloaded(estimate_memory(config, 1000, 1), config, is_gpu)
    assert (estimate.parameters, estimate.gradients, estimate.optimizer) == tuple(1000 * each for each in left)
    engine = config.engine.model_copy(update={"zero_stage": 2})
    at_two = config.model_copy(update={"engine": engine})  # where parameters are not offloaded
    assert without_offloaded(estimate_memory(at_two, 1000, 1), at_two, is_gpu).parameters == 2000


def test_ranks_that_share_layers_hold_parts_and_muon_leaves_embeddings_to_adam():
    config = run_config(zero_stage=1, tensor_parallel=2)
    with torch.device("meta"):
        model = empty_model(decoder_config(config.model, 64, 2, 3), "fp32", "eager")
    cut = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)  # of two blocks
    whole = 2 * 64 * 32 + 5 * 32
    assert num_parameters(model) == cut + whole
    estimate = estimate_model(config, model, 2)
    assert estimate.parameters == 2 * (cut // 2 + whole)
    assert estimate.optimizer == 12 * (cut // 2 + whole)  # each of the two is alone with its part
    muon = run_config(zero_stage=1, optimizer={"type": "muon", "lr": 1e-2})
    assert estimate_model(muon, model, 2).optimizer == (8 * cut + 12 * whole) // 2
