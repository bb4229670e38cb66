"""Encoders: pieces in a row do not see each other, in both directions; weights and floating-point operations."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config.encoders import BertModel, ModernBertModel
from pipeline.models.build import fresh_model
from pipeline.models.encoders import encoder_config, hidden_states, is_encoder, logits_of
from pipeline.models.flops import encoder_flops_per_token
from pipeline.models.processor import widen_products
from pipeline.objectives.masked import MaskedLoss

VOCABULARY, LENGTH = 64, 16
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_layers": 4, "num_heads": 4, "max_positions": 32}
FORMS = {
    "bert": BertModel(type="bert", **SIZES),
    "modernbert": ModernBertModel(type="modernbert", local_attention=4, **SIZES),
}
IDS = torch.randint(VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(1))
POSITIONS = torch.tensor([[*range(7), *range(9)], [*range(LENGTH)]])
PIECES = ((0, slice(0, 7)), (0, slice(7, 16)), (1, slice(0, 16)))


def model(form: str, attention: str = "sdpa", dtype: str = "fp32"):
    network = fresh_model(encoder_config(FORMS[form], VOCABULARY, 1, 0, 2), 3, "fp32", attention)
    with torch.no_grad():  # attention that is not flat
        for parameter in network.parameters():
            parameter.mul_(8 if parameter.ndim >= 2 else 1)
    network = network.to(torch.bfloat16) if dtype == "bf16" else network
    if attention == "sdpa" and dtype == "bf16":
        widen_products(network)
    return network.eval()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("attention", "dtype"), [("eager", "fp32"), ("sdpa", "fp32"), ("sdpa", "bf16")])
@torch.no_grad()
def test_a_piece_in_a_row_of_several_is_as_if_alone(form, attention, dtype):
    network = model(form, attention, dtype)
    packed, mixed = hidden_states(network, IDS, POSITIONS), hidden_states(network, IDS)
    tolerance = {"fp32": 1e-4, "bf16": 0.1}[dtype]
    for row, piece in PIECES:
        alone = hidden_states(network, IDS[row : row + 1, piece])[0]
        assert torch.allclose(packed[row, piece], alone, atol=tolerance)
        assert torch.allclose(mixed[row, piece], alone, atol=tolerance) == (row == 1)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_every_token_sees_both_sides(form):
    network, ids = model(form), IDS.clone()
    ids[:, 8] = (ids[:, 8] + 1) % VOCABULARY
    changed = (hidden_states(network, IDS) - hidden_states(network, ids)).abs().amax(dim=-1) > 0
    assert changed.all()


@torch.no_grad()
def test_local_attention_is_as_wide_as_its_window():
    wide = FORMS["modernbert"].model_copy(update={"num_layers": 2, "global_every": 2})
    network = fresh_model(encoder_config(wide, VOCABULARY, 1, 0, 2), 3, "fp32", "sdpa").eval()
    assert network.config.layer_types == ["full_attention", "sliding_attention"]
    network.config.layer_types[0] = network.model.layers[0].attention_type = "sliding_attention"
    ids = IDS.clone()
    ids[:, 8] = (ids[:, 8] + 1) % VOCABULARY
    for positions in (None, torch.arange(LENGTH).repeat(2, 1)):
        first, second = hidden_states(network, IDS, positions), hidden_states(network, ids, positions)
        changed = (first - second).abs().amax(dim=-1) > 0
        assert [column for column in range(LENGTH) if changed[0, column]] == list(range(4, 13))  # two layers of 2


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_is_that_of_the_logits_at_the_chosen_positions(form):
    network = model(form)
    labels = torch.where(torch.rand(IDS.shape, generator=torch.Generator().manual_seed(2)) < 0.1, IDS, -100)
    labels[0, 0] = 5
    logits = network(input_ids=IDS).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    assert torch.allclose(MaskedLoss(network, 0.5)(IDS, labels), expected, rtol=1e-5)
    assert torch.allclose(logits_of(network, hidden_states(network, IDS)), logits, atol=1e-5)
    nothing = MaskedLoss(network, 0.5)(IDS, torch.full_like(IDS, -100))
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert all(not parameter.grad.any() for parameter in network.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("form", FORMS)
def test_forms_are_told_apart_and_know_their_mask_token(form):
    network = model(form)
    assert is_encoder(network.config)
    assert network.config.mask_token_id == 2
    assert type(network).__name__.endswith("ForMaskedLM")


@pytest.mark.parametrize("form", FORMS)
def test_flops_count_every_product_of_a_forward_pass(form):
    """With eager attention, which also makes the products that local attention masks; they are not counted."""
    network = model(form, "eager")
    labels = torch.where(torch.arange(LENGTH) < 2, IDS, -100)
    with FlopCounterMode(display=False) as counter:
        MaskedLoss(network, 2 / LENGTH)(IDS, labels)
    counted = 3 * counter.get_total_flops() / IDS.numel()
    masked = 0
    if form == "modernbert":
        local = [kind for kind in network.config.layer_types if kind == "sliding_attention"]
        masked = 12 * len(local) * 32 * (LENGTH - 5)
    assert encoder_flops_per_token(network.config, LENGTH, 2 / LENGTH) == pytest.approx(counted - masked, rel=0.01)
