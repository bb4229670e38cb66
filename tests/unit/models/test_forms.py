"""Every form of decoder: its size, first weights, FLOPs, packed rows, bf16 products and low-rank updates."""

import math
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config.model import LoraAdapter
from pipeline.errors import ConfigError
from pipeline.models.adapters import add_lora, merge_lora
from pipeline.models.build import fresh_model, num_parameters
from pipeline.models.flops import training_flops_per_token
from pipeline.models.forms import decoder_config
from pipeline.models.initialization import Spread, muon_fault
from pipeline.models.processor import widen_products
from tests.unit.models.decoder_forms import FORMS, decoder

VOCABULARY = 61
IDS = torch.randint(VOCABULARY, (2, 24), generator=torch.Generator().manual_seed(0))
ATTENTION = 32 * (32 + 16 + 16 + 32)
SIZES = {
    "llama": 2 * VOCABULARY * 32 + 2 * (ATTENTION + 3 * 32 * 48 + 2 * 32) + 32,
    "qwen3": VOCABULARY * 32 + 2 * (2 * ATTENTION + 3 * 32 * 48 + 2 * 32 + 2 * 16) + 32,
    "olmo2": 2 * VOCABULARY * 32 + 2 * (ATTENTION + 3 * 32 * 48 + 2 * 32 + 32 + 16) + 32,
    "gpt2": (VOCABULARY + 64) * 32 + 2 * (12 * 32 * 32 + (3 + 1 + 4 + 1) * 32 + 4 * 32) + 64,
    "qwen3_moe": 2 * VOCABULARY * 32 + 2 * (ATTENTION + 4 * 3 * 32 * 24 + 4 * 32 + 2 * 32 + 2 * 8) + 32,
}
"""By hand: embeddings, blocks, last norm."""
RESIDUAL_OUTPUTS = ("o_proj.weight", "down_proj.weight", "experts.down_proj", "c_proj.weight")

every_form = pytest.mark.parametrize("form", FORMS)


def model(form: str, seed: int = 0, dtype: str = "fp32", **changes):
    config = decoder(form, **changes)
    spread = Spread.of(config, VOCABULARY)
    return fresh_model(decoder_config(config, VOCABULARY, 2, 3), seed, dtype, "sdpa", spread).eval()


@torch.no_grad()
def logits(network, ids: torch.Tensor = IDS, **more) -> torch.Tensor:
    return network(input_ids=ids, use_cache=False, **more).logits


class _Products(TorchDispatchMode):
    """Notes the types that matrix products are taken in."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if any(word in function.name() for word in ("mm", "attention")):
            self.types |= {one.dtype for one in args if isinstance(one, torch.Tensor) and one.is_floating_point()}
        return function(*args, **(kwargs or {}))


@every_form
def test_a_form_has_the_size_that_its_config_says(form):
    assert num_parameters(model(form)) == SIZES[form]


@every_form
@pytest.mark.parametrize("init", ["plain", "scaled"])
def test_first_weights(form, init):
    """Matrices as wide as said, those that write into the residual stream less if so said; norms 1, biases 0."""
    network = model(form, init=init, init_std=0.1, num_layers=8)
    for name, parameter in network.named_parameters():
        values = parameter.detach()
        if values.ndim < 2:
            assert bool((values == (0.0 if name.endswith("bias") else 1.0)).all()), name
        else:
            less = init == "scaled" and name.endswith(RESIDUAL_OUTPUTS)
            assert float(values.std()) == pytest.approx(0.025 if less else 0.1, rel=0.15), name
            assert float(values.mean()) == pytest.approx(0, abs=0.3 * float(values.std())), name


@every_form
def test_flops_are_those_that_pytorch_counts(form):
    """Three times its forward pass, where attention is not halved by causality; of experts those that are active."""
    network, length = model(form), IDS.shape[1]
    network.set_attn_implementation("eager")  # it counts no others on a processor
    if form == "qwen3_moe":
        network.set_experts_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        logits(network)
    heads = network.config.num_attention_heads * getattr(network.config, "head_dim", 8)
    attention = 6.0 * length * network.config.num_hidden_layers * heads
    expected = 3 * counter.get_total_flops() / IDS.numel() - attention
    assert training_flops_per_token(network.config, length) == pytest.approx(expected, rel=1e-6)


@every_form
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_piece_in_a_row_of_several_is_as_if_alone(form, attention):
    network = model(form, init_std=0.2)
    network.set_attn_implementation(attention)
    ends = (0, 7, 8, 24)
    positions = torch.cat([torch.arange(end - start) for start, end in pairwise(ends)])[None]
    packed, mixed = logits(network, IDS[:1], position_ids=positions), logits(network, IDS[:1])
    for start, end in pairwise(ends):
        alone = logits(network, IDS[:1, start:end])
        assert torch.allclose(packed[:, start:end], alone, atol=1e-5 * float(alone.abs().max()))
    assert not torch.allclose(packed, mixed, atol=1e-3)


@every_form
def test_widened_products_are_the_native_ones_but_for_rounding(form):
    native, wide = (model(form, dtype="bf16", init_std=0.2) for _ in range(2))
    widen_products(wide)
    exact = logits(model(form, init_std=0.2))
    assert torch.allclose(logits(wide), logits(native), atol=0.03 * float(exact.abs().max()))
    with _Products() as products:
        logits(wide)
    router = {torch.bfloat16} if form == "qwen3_moe" else set()  # small, and left as it is
    assert products.types == {torch.float32} | router
    with _Products() as products:
        logits(native)
    assert torch.bfloat16 in products.types


@every_form
def test_rows_that_pad_the_vocabulary_change_nothing(form):
    plain, padded = model(form), model(form, pad_vocabulary_to=64)
    assert padded.config.vocab_size == 64
    found = logits(padded)
    assert torch.allclose(found[..., :VOCABULARY], logits(plain), atol=1e-6)
    assert not found[..., VOCABULARY:].any()


@pytest.mark.parametrize(("form", "targets"), [("gpt2", ("c_attn", "c_proj")), ("qwen3_moe", ("q_proj", "o_proj"))])
def test_low_rank_updates_of_any_form(form, targets):
    plain = logits(model(form))
    wrapped = add_lora(model(form), LoraAdapter(type="lora", rank=4, target_modules=targets), seed=0)
    assert torch.equal(logits(wrapped), plain)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    changed = logits(wrapped)
    assert not torch.allclose(changed, plain, atol=1e-3)
    assert torch.allclose(logits(merge_lora(wrapped)), changed, atol=1e-4)


def test_what_may_have_low_rank_updates_is_named():
    with pytest.raises(
        ConfigError, match=r"\(q_proj, .*\) match no layer; the model's are c_attn, c_fc, c_proj, lm_head"
    ):
        add_lora(model("gpt2"), LoraAdapter(type="lora"), seed=0)


@every_form
def test_muon_is_for_forms_that_deepspeed_takes_right(form):
    fault = muon_fault(model(form))
    assert {"gpt2": "the embedding transformer.wte", "qwen3_moe": "is a stack of matrices"}.get(form, "") in str(fault)
    assert (fault is None) == (form in ("llama", "qwen3", "olmo2"))


@pytest.mark.parametrize(
    ("form", "changes", "message"),
    [
        ("gpt2", {"num_heads": 5}, r"hidden_size \(32\) must be a multiple of num_heads \(5\)"),
        ("qwen3", {"head_size": 7}, r"the size of a head \(7\) must be even, for rotary positions"),
        ("llama", {"num_heads": 6}, r"hidden_size \(32\) must be a multiple of num_heads \(6\)"),
        ("qwen3_moe", {"experts_per_token": 5}, r"experts_per_token \(5\) must be at most num_experts \(4\)"),
        ("llama", {"init": "mup"}, r"base_width \(null\) and init mup need each other; init is mup"),
        ("llama", {"base_width": 16}, r"base_width \(16\) and init mup need each other; init is scaled"),
        ("gpt2", {"init": "mup", "base_width": 16}, r"tie_embeddings \(true\) must be false when init is mup"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(form, changes, message):
    with pytest.raises(ValidationError, match=message):
        decoder(form, **changes)


def test_residual_outputs_are_smaller_by_the_root_of_twice_the_depth():
    block = model("llama", init_std=0.5).model.layers[0]
    ratio = float((block.mlp.up_proj.weight.std() / block.mlp.down_proj.weight.std()).detach())
    assert ratio == pytest.approx(math.sqrt(4), rel=0.1)


@every_form
def test_the_end_of_a_text_is_learned_where_it_pads_too(form):
    network = fresh_model(decoder_config(decoder(form), VOCABULARY, 2, 2), 0, "fp32", "sdpa").train()
    network(input_ids=torch.tensor([[5, 2, 7]]), use_cache=False).logits[..., 9].sum().backward()
    assert network.get_input_embeddings().weight.grad[2].any()


def test_frozen_weights_cost_no_gradients_of_theirs():
    config = model("llama").config
    whole, frozen = (training_flops_per_token(config, 24, is_frozen=one) for one in (False, True))
    attention = 6 * 24 * 2 * 4 * 8
    assert (frozen - attention) / (whole - attention) == pytest.approx(2 / 3)
