"""Weights by name, low-rank updates, FLOPs, and bf16 products on any processor."""

import math

import pytest
import torch

from pipeline.config.model import LlamaModel, LoraAdapter
from pipeline.errors import ConfigError
from pipeline.models.adapters import add_lora, merge_lora
from pipeline.models.build import fresh_model, num_parameters
from pipeline.models.flops import training_flops_per_token
from pipeline.models.forms import decoder_config
from pipeline.models.processor import widen_products

FORM = LlamaModel(
    type="llama", hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4, num_key_value_heads=2, init_std=0.5
)
CONFIG = decoder_config(FORM, 64, eos_id=2, pad_id=3)
IDS = torch.arange(48).reshape(2, 24)


def model(seed: int = 0, dtype: str = "fp32"):
    return fresh_model(CONFIG, seed, dtype, "eager").eval()


def logits(network) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=IDS).logits


def test_weights_depend_on_seed_and_name_only():
    first, again, other = model(), model(), model(seed=1)
    torch.rand(7)  # the global generator plays no part
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    layers = first.model.layers
    assert not torch.equal(layers[0].mlp.up_proj.weight, layers[1].mlp.up_proj.weight)


def test_residual_outputs_start_smaller():
    layer = model().model.layers[0]
    ratio = layer.mlp.up_proj.weight.std() / layer.mlp.down_proj.weight.std()
    assert float(ratio.detach()) == pytest.approx(math.sqrt(2 * FORM.num_layers), rel=0.1)


def test_low_rank_updates_start_as_nothing_and_merge_to_what_was_trained():
    plain = logits(model())
    wrapped = add_lora(model(), LoraAdapter(type="lora", rank=4), seed=0)
    assert torch.equal(logits(wrapped), plain)
    assert 0 < num_parameters(wrapped, trainable_only=True) < num_parameters(wrapped) / 2
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    changed = logits(wrapped)
    assert not torch.allclose(changed, plain, atol=1e-3)
    assert torch.allclose(logits(merge_lora(wrapped)), changed, atol=1e-4)


def test_low_rank_updates_of_layers_that_are_not_there():
    with pytest.raises(ConfigError, match="target_modules"):
        add_lora(model(), LoraAdapter(type="lora", target_modules=("nowhere",)), seed=0)


def test_flops_count_every_product_of_a_forward_pass():
    """Three times the forward pass as PyTorch itself counts it, whose attention is not halved by causality."""
    from torch.utils.flop_counter import FlopCounterMode

    network, length = model(), IDS.shape[1]
    with FlopCounterMode(display=False) as counter:
        logits(network)
    attention = 6.0 * length * FORM.num_layers * FORM.hidden_size
    expected = 3 * counter.get_total_flops() / IDS.numel() - attention
    assert training_flops_per_token(CONFIG, length) == pytest.approx(expected, rel=0.01)


def test_widened_products_are_the_native_ones_but_for_rounding():
    native, wide = model(dtype="bf16"), model(dtype="bf16")
    widen_products(wide)
    exact = logits(model())
    scale = float(exact.abs().max())
    assert torch.allclose(logits(wide), logits(native), atol=0.03 * scale)
    assert not torch.equal(logits(wide).float(), exact)
