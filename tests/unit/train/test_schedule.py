import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config.optimization import Schedule
from pipeline.train.schedule import learning_rate_share

FORMS = ("constant", "linear", "cosine", "wsd", "inverse_sqrt")


def shares(num_steps: int, **settings) -> list[float]:
    return [learning_rate_share(Schedule(**settings), step, num_steps) for step in range(num_steps)]


@st.composite
def schedules(draw, forms: tuple[str, ...] = FORMS) -> Schedule:
    """Any form, warm-up by steps or tokens, `wsd` by any of its measures."""
    form = draw(st.sampled_from(forms))
    least = 1 if form == "inverse_sqrt" else 0
    warmup = draw(st.sampled_from(["warmup_steps", "warmup_tokens"]))
    values = {warmup: draw(st.integers(least if warmup == "warmup_steps" else 1, 30))}
    decay = {"decay_share": st.floats(0.01, 1), "decay_steps": st.integers(1, 90), "decay_start": st.integers(0, 70)}
    if name := draw(st.sampled_from([None, *decay] if form == "wsd" else [None])):
        values[name] = draw(decay[name])
    return Schedule(type=form, final_share=draw(st.floats(0, 1)),
                    decay_form=draw(st.sampled_from(["linear", "sqrt"])), **values)  # fmt: skip


@given(schedules(), st.lists(st.integers(1, 5), min_size=80, max_size=80), st.booleans())
def test_it_rises_once_to_the_peak_and_never_again(schedule, batches, by_tokens):
    """Under any sizes of batches: no step above the peak, the peak is reached, none rises behind it."""
    tokens = [0, *itertools.accumulate(batches)]
    curve = [learning_rate_share(schedule, step, 80, tokens.__getitem__, by_tokens=by_tokens) for step in range(80)]
    top = curve.index(max(curve))
    assert curve[top] == pytest.approx(1.0, abs=1e-12)
    assert all(one <= other for one, other in itertools.pairwise(curve[: top + 1]))
    assert all(other <= one + 1e-12 for one, other in itertools.pairwise(curve[top:]))
    assert min(curve[top:]) >= schedule.final_share - 1e-12


@given(schedules(forms=("linear", "cosine", "wsd")), st.booleans())
def test_it_ends_at_the_final_share(schedule, by_tokens):
    share = learning_rate_share(schedule, 80, 80, lambda step: 3 * step, by_tokens=by_tokens)
    assert share == pytest.approx(schedule.final_share, abs=1e-12)


@given(st.sampled_from(FORMS), st.integers(1, 20), st.integers(0, 40), st.floats(0, 1))
def test_by_tokens_a_batch_that_grows_leaves_the_rate_where_it_is(form, warmup, ramp, decay_share):
    """Twice the batch from some step on, in warm-up or behind it: the same rate where as many tokens are seen."""
    decay = {"decay_share": decay_share} if form == "wsd" else {}
    schedule = Schedule(type=form, warmup_tokens=2 * warmup, **decay)
    before, num_steps = 2 * ramp, 80 + ramp  # steps of one token, then of two, 160 in all

    def seen(step: int) -> int:
        return min(step, before) + 2 * max(0, step - before)

    for step in range(num_steps):
        same = seen(step + 1) - 1 if seen(step + 1) <= 2 * warmup else seen(step)
        plain = learning_rate_share(schedule, same, 160, by_tokens=True)
        assert learning_rate_share(schedule, step, num_steps, seen, by_tokens=True) == plain


def test_wsd_stays_at_the_peak_until_its_decay():
    curve = shares(100, type="wsd", decay_share=0.25, final_share=0.0)
    assert curve[:76] == [1.0] * 76
    assert curve[88] == pytest.approx(0.48)
    assert shares(100, type="wsd", decay_steps=25, final_share=0.0) == curve
    assert shares(100, type="wsd", decay_start=75, final_share=0.0) == curve
    assert shares(100, type="wsd", final_share=0.0) == shares(100, type="wsd", decay_share=0.2, final_share=0.0)


def test_a_run_at_its_peak_is_annealed_from_any_step_on():
    """What was trained before the decay was at the same rates under the longer plan, and under none."""
    stable = shares(200, type="constant", warmup_steps=10)
    annealed = shares(120, type="wsd", warmup_steps=10, decay_start=100, decay_form="sqrt", final_share=0.0)
    assert annealed[:101] == stable[:101]
    assert annealed[105] == pytest.approx(0.5)  # 1 - sqrt(5 / 20)
    assert annealed[119] == pytest.approx(1 - (19 / 20) ** 0.5)


def test_inverse_square_root_falls_whatever_the_end_is():
    curve = shares(1000, type="inverse_sqrt", warmup_steps=10, final_share=0.2)
    assert curve[40] == pytest.approx(0.5)
    assert curve[:500] == shares(500, type="inverse_sqrt", warmup_steps=10, final_share=0.2)
    assert curve[-1] == 0.2


def test_warm_up_rises_by_what_is_seen_with_each_step():
    assert shares(20, type="constant", warmup_steps=10)[:11] == [step / 10 for step in range(1, 11)] + [1.0]
    schedule = Schedule(type="constant", warmup_tokens=100)
    rates = [learning_rate_share(schedule, step, 20, lambda step: 40 * step) for step in range(4)]
    assert rates == [0.4, 0.8, 1.0, 1.0]


@pytest.mark.parametrize(("values", "cure"), [
    ({"warmup_steps": 5, "warmup_tokens": 100}, r"warmup_steps \(5\) and warmup_tokens \(100\), not both"),
    ({"type": "wsd", "decay_share": 0.1, "decay_start": 9}, r"decay_share \(0.1\) and decay_start \(9\)"),
    ({"type": "inverse_sqrt"}, "needs warmup_steps or warmup_tokens above 0"),
])  # fmt: skip
def test_what_says_two_things_is_refused(values, cure):
    with pytest.raises(ValidationError, match=cure):
        Schedule(**values)


def test_how_to_decay_is_for_wsd_only():
    with pytest.raises(ValidationError, match=r"decay_steps \(1000\) is for type wsd and type is cosine; leave it out"):
        Schedule(decay_steps=1000)
