"""What is computed again gives the same gradients; selective recomputation repeats no product of a linear layer."""

from copy import deepcopy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config.model import LlamaModel
from pipeline.models.blocks import compile_blocks, recompute_blocks
from pipeline.models.build import fresh_model
from pipeline.models.forms import decoder_config
from pipeline.objectives.causal import CausalLoss

FORM = LlamaModel(
    type="llama", hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4, num_key_value_heads=2, init_std=0.3
)
CONFIG = decoder_config(FORM, 64, eos_id=2, pad_id=3)
IDS = torch.randint(64, (2, 64), generator=torch.Generator().manual_seed(0))
POSITIONS = torch.cat([torch.arange(24), torch.arange(40)]).repeat(2, 1)


def prepared(what: str) -> CausalLoss:
    network = fresh_model(deepcopy(CONFIG), 0, "fp32", "documents").train()
    if what != "none":
        recompute_blocks(network, what)
    return CausalLoss(network)


def trained(loss: CausalLoss) -> tuple[torch.Tensor, list[torch.Tensor]]:
    value = loss(IDS, IDS.roll(-1, 1), POSITIONS)
    value.backward()
    return value.detach(), [parameter.grad for parameter in loss.parameters()]


@pytest.mark.parametrize("what", ["selective", "full"])
def test_gradients_are_those_of_what_is_kept(what):
    loss, gradients = trained(prepared("none"))
    found_loss, found = trained(prepared(what))
    assert torch.equal(found_loss, loss)
    assert all(torch.equal(one, other) for one, other in zip(found, gradients, strict=True))


def test_selective_repeats_no_product_and_full_repeats_a_forward_pass():
    counts = {}
    for what in ("none", "selective", "full"):
        with FlopCounterMode(display=False) as counter:
            trained(prepared(what))
        counts[what] = counter.get_total_flops()
    forward = 2 * sum(one.numel() for one in prepared("none").model.model.layers.parameters() if one.ndim == 2)
    assert counts["selective"] == counts["none"]
    assert counts["none"] < counts["full"] <= counts["none"] + forward * IDS.numel()  # it stops where no more is needed


def test_compiled_blocks_are_recomputed_alike():
    torch._dynamo.reset()
    loss, gradients = trained(prepared("none"))
    network = prepared("selective")
    compile_blocks(network, backend="aot_eager")  # traced and partitioned, but not fused: the same roundings
    found_loss, found = trained(network)
    assert torch.equal(found_loss, loss)
    assert all(torch.equal(one, other) for one, other in zip(found, gradients, strict=True))
