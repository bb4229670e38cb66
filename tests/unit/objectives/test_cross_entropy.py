"""Losses and gradients without logits in memory are those of the plain way, however rows fall into chunks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.config.model import LoraAdapter
from pipeline.models.adapters import add_lora
from pipeline.models.processor import widen_products
from pipeline.objectives import cross_entropy
from pipeline.objectives.causal import CausalLoss, summed_loss
from pipeline.objectives.cross_entropy import chunked_loss

IDS = torch.randint(48, (2, 12), generator=torch.Generator().manual_seed(0))
LABELS = torch.where(IDS % 5 == 0, -100, IDS.roll(-1))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 40),
    most=st.integers(1, 400),
    z_loss=st.sampled_from([0.0, 1e-2]),
    has_bias=st.booleans(),
    valid=st.sampled_from([0.0, 0.3, 1.0]),
    frozen=st.booleans(),
)
def test_chunks_give_loss_and_gradients_of_the_whole(rows, most, z_loss, has_bias, valid, frozen):
    generator = torch.Generator().manual_seed(rows)
    shapes = [(rows, 6), (16, 6), (16,)]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    labels = torch.randint(16, (rows,), generator=generator)
    labels[torch.rand(rows, generator=generator) >= valid] = -100

    def gradients(loss_of):
        hidden, weight, bias = (tensor.clone().requires_grad_() for tensor in tensors)
        weight.requires_grad_(not frozen)
        loss = loss_of(hidden, weight, bias if has_bias else None)
        (loss * 0.3).backward()
        return [loss.detach().double(), hidden.grad, weight.grad, bias.grad]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cross_entropy._MAX_LOGITS, "cpu", most)
        found = gradients(lambda *parts: chunked_loss(*parts, labels, z_loss)[0])
    expected = gradients(lambda *parts: _whole(linear(*parts), labels, z_loss))
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def _whole(logits, labels, z_loss):
    log_z = logits.logsumexp(1)
    losses = log_z - logits.gather(1, labels.clamp(min=0)[:, None])[:, 0] + z_loss * log_z**2
    return losses.where(labels >= 0, 0).sum()


def network(**changes) -> LlamaForCausalLM:
    torch.manual_seed(1)
    form = {"vocab_size": 48, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": None}
    return LlamaForCausalLM(LlamaConfig(**form, **heads, initializer_range=0.4, **changes))


FORMS = {
    "plain": network,
    "tied": lambda: network(tie_word_embeddings=True),
    "lora": lambda: add_lora(network(), LoraAdapter(type="lora", target_modules=("q_proj",)), seed=0),
    "lora on the output layer": lambda: add_lora(
        network(), LoraAdapter(type="lora", target_modules=("lm_head",)), seed=0
    ),
}


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.parametrize("form", FORMS)
def test_a_model_learns_as_from_its_logits(form, z_loss):
    one, other = FORMS[form](), FORMS[form]()
    loss, expected = CausalLoss(one, z_loss=z_loss)(IDS, LABELS), summed_loss(other(IDS).logits, LABELS, z_loss)[0]
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert z_loss == 0 or float(loss.detach()) > float(CausalLoss(FORMS[form]())(IDS, LABELS).detach())
    loss.backward()
    expected.backward()
    for (name, found), wanted in zip(one.named_parameters(), other.parameters(), strict=True):
        assert (found.grad is None) == (wanted.grad is None), name
        assert found.grad is None or torch.allclose(found.grad, wanted.grad, rtol=1e-4, atol=1e-5), name


def test_a_model_still_gives_its_logits():
    model = network()
    before = model(IDS).logits
    loss = CausalLoss(model)
    loss(IDS, LABELS).backward()
    assert torch.equal(model(IDS).logits, before)
    assert [name for name, _ in loss.named_parameters()] == [f"model.{name}" for name, _ in model.named_parameters()]


@pytest.mark.parametrize("is_wide", [False, True])
def test_in_bf16_sums_over_chunks_are_fp32(is_wide, monkeypatch):
    """The loss of many small chunks is the one of fp32 products within bf16's rounding of weights and activations."""
    monkeypatch.setitem(cross_entropy._MAX_LOGITS, "cpu", 48)
    model = network().to(torch.bfloat16)
    if is_wide:
        widen_products(model)
    loss = CausalLoss(model)(IDS, LABELS)
    loss.backward()
    assert loss.dtype == torch.float32
    assert model.lm_head.weight.grad.dtype == torch.bfloat16
    exact = network()
    expected = CausalLoss(exact)(IDS, LABELS)
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=5e-3)
    error = (model.lm_head.weight.grad.float() - exact.lm_head.weight.grad).norm() / exact.lm_head.weight.grad.norm()
    assert error < 0.03


def test_without_gradients_none_is_computed(monkeypatch):
    """Evaluation gives the same loss, and its softmax is asked for no gradient."""
    asked = []
    model = CausalLoss(network())

    def noted(*arguments):
        asked.append(arguments[-1])
        return cross_entropy.softmax_loss(*arguments)

    monkeypatch.setattr(model._output, "_softmax", noted)
    with torch.no_grad():
        evaluated = model(IDS, LABELS)
    assert torch.equal(evaluated, model(IDS, LABELS).detach())
    assert asked == [False, True]


def test_a_model_that_changes_its_logits_keeps_them():
    model = network(final_logit_softcapping=30.0)
    assert CausalLoss(model)._output is None
