"""The average of weights is what its formula says, and gives way and comes back bit by bit."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.average import WeightAverage


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8), st.floats(0.01, 0.999), st.integers(0, 10**6))
@settings(deadline=None)
def test_it_is_the_naive_sum(values, decay, first_step):
    weight = torch.zeros(3)
    average, expected = WeightAverage([weight], decay), 0.0
    for step, value in enumerate(values, first_step):
        weight.fill_(value)
        average.update(step)
        kept = min(decay, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * value
    torch.testing.assert_close(average.of(weight), torch.full((3,), expected), rtol=1e-4, atol=1e-3)


def test_it_is_swapped_for_the_weights_and_back():
    one, other = torch.tensor([1.0, 2.0]), torch.tensor([3.0])
    average = WeightAverage([one, other], 0.5)
    one.add_(10)
    with average.swapped():
        assert (one.tolist(), other.tolist()) == ([1, 2], [3])
        assert average.of(one).tolist() == [11, 12]
    assert (one.tolist(), average.of(one).tolist()) == ([11, 12], [1, 2])
    average.restart()
    assert average.of(one).tolist() == [11, 12]
