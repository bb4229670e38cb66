import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.batch import IGNORED, MicroBatch
from pipeline.evaluation.measure import Measurement, measure
from tests.unit.small import small_model

BYTE_LENGTHS = np.arange(64, dtype=np.int64) % 5


def micro_batch(rows: int, seed: int, ignored: float = 0.3) -> MicroBatch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(64, (rows, 12), generator=generator)
    labels = torch.randint(64, (rows, 12), generator=generator)
    labels[torch.rand(rows, 12, generator=generator) < ignored] = IGNORED
    return MicroBatch(ids, labels)


def by_hand(model: torch.nn.Module, one: MicroBatch) -> Measurement:
    with torch.no_grad():
        log_probabilities = model(input_ids=one.input_ids).logits.double().log_softmax(-1)
    total = Measurement()
    for row in range(len(one.labels)):
        for place, label in enumerate(one.labels[row].tolist()):
            if label != IGNORED:
                total += Measurement(-float(log_probabilities[row, place, label]), 1, int(BYTE_LENGTHS[label]))
    return total


def test_it_equals_the_sum_by_hand() -> None:
    model = small_model(64)
    batches = [micro_batch(3, 0), micro_batch(1, 1), micro_batch(2, 2, ignored=1.0)]
    expected = sum((by_hand(model, one) for one in batches), Measurement())
    found = measure(model, batches, BYTE_LENGTHS)
    assert (found.tokens, found.text_bytes) == (expected.tokens, expected.text_bytes)
    assert found.loss_sum == pytest.approx(expected.loss_sum, rel=1e-6)
    assert found.loss == pytest.approx(expected.loss_sum / expected.tokens, rel=1e-6)
    assert found.perplexity == pytest.approx(math.exp(expected.loss), rel=1e-5)
    assert found.bits_per_byte == pytest.approx(expected.loss_sum / math.log(2) / expected.text_bytes, rel=1e-6)


def test_shares_of_ranks_add_up_to_the_whole() -> None:
    model = small_model(64)
    batches = [micro_batch(2, seed) for seed in range(4)]
    whole = measure(model, batches, BYTE_LENGTHS)
    shares = measure(model, batches[::2], BYTE_LENGTHS) + measure(model, batches[1::2], BYTE_LENGTHS)
    assert shares.loss_sum == pytest.approx(whole.loss_sum, rel=1e-12)
    assert (shares.tokens, shares.text_bytes) == (whole.tokens, whole.text_bytes)


def test_losses_of_a_bf16_model_are_taken_in_fp32() -> None:
    model = small_model(64).to(torch.bfloat16)
    batches = [micro_batch(4, seed) for seed in range(8)]
    expected = sum((by_hand(model, one) for one in batches), Measurement())
    assert measure(model, batches, BYTE_LENGTHS).loss_sum == pytest.approx(expected.loss_sum, rel=1e-6)


def test_no_batch_is_an_empty_measurement_and_the_mode_comes_back() -> None:
    model = small_model(64).train()
    assert measure(model, [], BYTE_LENGTHS) == Measurement()
    measure(model, [micro_batch(1, 0)], BYTE_LENGTHS)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(IndexError):
        measure(model, [MicroBatch(torch.tensor([[64]]), torch.tensor([[0]]))], BYTE_LENGTHS)
    assert model.training


def test_an_enormous_loss_has_an_infinite_perplexity() -> None:
    assert Measurement(7000.0, 10, 10).perplexity == math.inf


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100)), max_size=5))
def test_addition_has_a_zero_and_keeps_sums(parts: list[tuple[int, int, int]]) -> None:
    total = sum((Measurement(*part) for part in parts), Measurement())
    assert total == Measurement(*(sum(column) for column in zip(*parts, strict=True))) if parts else Measurement()
