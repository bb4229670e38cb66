import math

import pytest
import torch

from pipeline.objectives.causal import summed_loss


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
