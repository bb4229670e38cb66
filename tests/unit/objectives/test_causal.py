import math
from copy import deepcopy

import pytest
import torch

from pipeline.models.build import fresh_model
from pipeline.models.forms import decoder_config
from pipeline.objectives.causal import CausalLoss, summed_loss
from tests.unit.models.decoder_forms import decoder


def test_uniform_logits_cost_the_log_of_the_vocabulary_per_valid_token():
    labels = torch.tensor([[1, -100, 3], [-100, 2, -100]])
    loss, rows = summed_loss(torch.zeros(2, 3, 8, dtype=torch.bfloat16), labels)
    assert loss.dtype == torch.float32
    assert math.isclose(float(loss), 3 * math.log(8), rel_tol=1e-6)
    assert rows.tolist() == pytest.approx([2 * math.log(8), math.log(8)])
    assert not rows.requires_grad


def test_no_valid_token_costs_nothing_and_gives_no_gradient():
    logits = torch.randn(1, 4, 8, requires_grad=True)
    loss, _ = summed_loss(logits, torch.full((1, 4), -100))
    loss.backward()
    assert float(loss) == 0.0
    assert not logits.grad.any()


def test_labels_are_taken_as_already_shifted():
    logits = torch.full((1, 3, 5), -20.0)
    for position, token in enumerate((4, 0, 2)):
        logits[0, position, token] = 20.0
    assert float(summed_loss(logits, torch.tensor([[4, 0, 2]]))[0]) < 1e-6
    assert float(summed_loss(logits, torch.tensor([[0, 4, 2]]))[0]) > 10


@pytest.mark.parametrize("vocab_size", [64, 60])
def test_the_z_loss_is_of_training_only(vocab_size):
    network = fresh_model(decoder_config(decoder("llama"), 64, 2, 3), 0, "fp32", "sdpa")
    plain, steered = CausalLoss(deepcopy(network), vocab_size=vocab_size), CausalLoss(network, False, vocab_size, 1e-2)
    ids = torch.arange(12).reshape(2, 6)
    assert float(steered(ids, ids).detach()) > float(plain(ids, ids).detach())
    with torch.no_grad():
        assert float(steered(ids, ids)) == float(plain(ids, ids))
