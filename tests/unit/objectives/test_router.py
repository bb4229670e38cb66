"""The router's loss: transformers' own formula, weighed by valid tokens, in the gradient alone."""

import pytest
import torch
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from pipeline.data.batch import IGNORED
from pipeline.models.build import fresh_model
from pipeline.models.forms import decoder_config
from pipeline.objectives.causal import CausalLoss
from pipeline.objectives.router import balance
from tests.unit.models.decoder_forms import decoder

IDS = torch.randint(64, (2, 12), generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(64, (2, 12), generator=torch.Generator().manual_seed(1))


def objective(weight: float, pad: int = 1) -> CausalLoss:
    config = decoder("qwen3_moe", router_loss_weight=weight, init_std=0.2, pad_vocabulary_to=pad)
    return CausalLoss(fresh_model(decoder_config(config, 64, 2, 3), 0, "fp32", "sdpa"), vocab_size=64).train()


def gradients(loss: CausalLoss, labels: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    value = loss(IDS, labels)
    value.backward()
    return float(value.detach()), {name: one.grad for name, one in loss.model.named_parameters()}


@pytest.mark.parametrize("masked", [False, True])
def test_it_is_the_formula_of_the_field(masked):
    logits = torch.randn(20, 4, generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(20) % 3 > 0).float() if masked else torch.ones(20)
    expected = load_balancing_loss_func((logits,), 4, 2, mask[None] if masked else None)
    assert float(balance(logits, mask, 2)) == pytest.approx(float(expected), rel=1e-6)
    assert float(balance(torch.zeros(20, 4), mask, 2)) == pytest.approx(2.0)
    assert float(balance(logits, torch.zeros(20), 2)) == 0.0


def test_the_gradient_holds_it_and_the_loss_does_not():
    """Against the whole of what transformers adds, block by block, for each valid token."""
    labels = LABELS.clone()
    labels[0, 3:] = IGNORED
    plain, without = gradients(objective(0.0), labels)
    loss, found = gradients(objective(0.5), labels)
    assert loss == plain
    network = objective(0.5).model
    output = network(input_ids=IDS, use_cache=False, output_router_logits=True)
    mask = (labels != IGNORED).float()
    parts = [load_balancing_loss_func((one,), 4, 2, mask) for one in output.router_logits]
    (0.5 * mask.sum() * torch.stack(parts).mean()).backward()
    for name, parameter in network.named_parameters():
        extra = torch.zeros(()) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found[name], without[name] + extra, rtol=1e-4, atol=1e-5)
    assert float(network.model.layers[0].mlp.gate.weight.grad.abs().max()) > 0


def test_a_micro_batch_without_a_valid_token_teaches_nothing():
    loss, found = gradients(objective(0.5), torch.full_like(LABELS, IGNORED))
    assert loss == 0.0
    assert not any(one.any() for one in found.values())


def test_measuring_is_without_it():
    loss = objective(0.5).eval()
    with torch.no_grad():
        assert float(loss(IDS, LABELS)) == float(objective(0.0).eval()(IDS, LABELS))


def test_ids_that_pad_the_vocabulary_have_no_share_in_the_loss():
    plain, padded = objective(0.1), objective(0.1, pad=100)
    with torch.no_grad():
        for one, other in zip(padded.model.parameters(), plain.model.parameters(), strict=True):
            one[: other.shape[0]].copy_(other)
    (loss, found), (expected, _) = gradients(padded, LABELS), gradients(plain, LABELS)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert not found["lm_head.weight"][64:].any()
