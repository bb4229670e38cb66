import itertools

import pytest

from pipeline.config.optimization import Schedule
from pipeline.train.schedule import learning_rate_share


def shares(num_steps: int, **settings) -> list[float]:
    return [learning_rate_share(Schedule(**settings), step, num_steps) for step in range(num_steps)]


@pytest.mark.parametrize("form", ["constant", "linear", "cosine", "wsd"])
def test_warm_up_rises_to_the_peak_and_nothing_exceeds_it(form):
    curve = shares(100, type=form, warmup_steps=10, final_share=0.1)
    assert curve[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert max(curve) == pytest.approx(1.0)


@pytest.mark.parametrize("form", ["linear", "cosine", "wsd"])
def test_decaying_forms_fall_to_the_final_share(form):
    curve = shares(1000, type=form, warmup_steps=0, final_share=0.2)
    assert all(late <= early for early, late in itertools.pairwise(curve))
    assert curve[-1] == pytest.approx(0.2, abs=0.01)


def test_wsd_stays_at_the_peak_until_its_decay():
    curve = shares(100, type="wsd", warmup_steps=0, decay_share=0.25, final_share=0.0)
    assert curve[:76] == [1.0] * 76
    assert curve[88] == pytest.approx(0.48)


def test_constant_stays():
    assert set(shares(50, type="constant", final_share=0.0)) == {1.0}


def test_by_tokens_a_batch_that_grows_leaves_the_rate_where_it_is() -> None:
    """Twice the batch from step 50 on: the run of as many tokens ends earlier, its rate falls twice as fast."""
    schedule = Schedule(type="linear", warmup_steps=10)

    def seen(step: int) -> int:
        return step + max(0, step - 50)

    plain = [learning_rate_share(schedule, step, 100) for step in range(100)]
    grown = [learning_rate_share(schedule, step, 75, seen) for step in range(75)]
    assert grown[:50] == plain[:50]
    assert grown[50:] == plain[50::2]
