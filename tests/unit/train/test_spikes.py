"""What is a spike of the loss, what is none, and that an interruption changes nothing of it."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.faults import Spikes
from pipeline.train.spikes import SpikeDetector, Verdict

SETTINGS = Spikes(window_steps=40, threshold=8, consecutive_steps=3)
QUIET = (2.0 + 0.02 * np.random.default_rng(0).standard_normal(200)).tolist()


def seen(losses: Sequence[float | None], settings: Spikes = SETTINGS) -> list[Verdict]:
    """The verdicts on losses, from step 1 on."""
    detector = SpikeDetector(settings)
    return [one for step, loss in enumerate(losses, 1) if (one := detector.see(step, loss)) is not None]


def told(losses: Sequence[float | None], settings: Spikes = SETTINGS) -> list[tuple[int, int, bool]]:
    return [(one.step, one.first_step, one.is_spike) for one in seen(losses, settings)]


def test_so_many_in_a_row_are_a_spike() -> None:
    assert told([*QUIET, 3.0, 3.5, 2.5, 2.0]) == [(201, 201, False), (202, 201, False), (203, 201, True)]
    assert told([*QUIET, 3.0, 2.0, 3.0, 3.0, 2.0]) == [(201, 201, False), (203, 203, False), (204, 203, False)]


def test_an_update_that_was_skipped_neither_ends_a_row_nor_counts() -> None:
    assert told([*QUIET, 3.0, None, 3.0, None, None, 3.0]) == [(201, 201, False), (203, 201, False), (206, 201, True)]
    detector = SpikeDetector(SETTINGS)
    for step, loss in enumerate([2.0, None, 2.5]):
        detector.see(step, loss)
    assert detector.state()["window"] == [2.0, 2.5]


def test_the_score_is_that_of_the_window() -> None:
    [verdict] = seen([*QUIET, 3.0])
    window = np.array(QUIET[-40:])
    middle = np.median(window)
    assert verdict.median == middle
    assert verdict.z == pytest.approx((3.0 - middle) / (1.4826 * np.median(abs(window - middle))))
    assert [verdict.streak, verdict.is_spike] == [1, False]


def test_a_fall_is_none() -> None:
    falling = 2 + 8 * np.exp(-np.arange(300) / 20)
    assert seen(falling.tolist()) == []
    assert seen([*QUIET, *[1.0] * 10, *[0.5] * 10]) == []


def test_losses_that_hardly_differ_make_no_spikes_of_noise() -> None:
    """Nor do losses near 0; a rise by a twentieth is one all the same."""
    for level in (10.8, 2.0, 0.01, 0.0):
        flat = [level] * 60
        assert seen([*flat, *[level + 0.003 * max(1.0, level)] * 5]) == []
        assert told([*flat, *[level + 0.05 * max(1.0, level)] * 3])[-1] == (63, 61, True)


def test_nothing_is_judged_before_a_quarter_of_the_window() -> None:
    assert seen([*[2.0] * 9, 99.0]) == []
    assert told([*[2.0] * 10, 99.0]) == [(11, 11, False)]
    assert seen([5.0, *[9.0] * 8], Spikes(window_steps=1)) != []
    assert seen([5.0], Spikes(window_steps=1)) == []


def test_outliers_do_not_enter_the_window() -> None:
    """However many there are, if there are too few in a row."""
    losses = [*QUIET, *[3.0, 3.0, 2.0] * 100, 3.0, 3.0, 3.0]
    assert told(losses)[-1] == (503, 501, True)
    assert [one.is_spike for one in seen(losses)].count(True) == 1


def test_a_level_that_stays_is_told_once() -> None:
    """Whoever goes on behind a spike goes on there, and is told of the next one."""
    losses = [*QUIET, *(loss + 1 for loss in QUIET), *[6.0] * 3]
    assert [one for one in told(losses) if one[2]] == [(203, 201, True), (403, 401, True)]


def test_other_data_begin_a_new_window() -> None:
    detector = SpikeDetector(SETTINGS)
    for step, loss in enumerate([*QUIET, 9.0, 9.0], 1):
        detector.see(step, loss)
    assert detector.state()["streak"] == 2
    detector.restart()
    assert (detector.state()["window"], detector.state()["streak"]) == ([], 0)
    assert [detector.see(step, loss + 1) for step, loss in enumerate(QUIET, 203)] == [None] * 200
    assert [detector.see(403, 9.0), detector.see(404, 9.0)][1].first_step == 403  # type: ignore[union-attr]


QUIET_LOSS = st.floats(1.9, 2.1)
ACTS = st.tuples(st.none() | QUIET_LOSS | QUIET_LOSS | st.floats(2, 50), st.booleans(), st.integers(0, 30))
"""A loss, whether the run is killed before it, and whether other data begin with it: at 0."""
SMALL = st.builds(
    Spikes, window_steps=st.integers(1, 12), threshold=st.floats(0.5, 9), consecutive_steps=st.integers(1, 4)
)


@given(SMALL, st.lists(ACTS, min_size=10, max_size=60))
@settings(max_examples=200)
def test_a_run_that_is_resumed_decides_what_the_uninterrupted_one_does(
    spikes: Spikes, acts: list[tuple[float | None, bool, int]]
) -> None:
    """Its state goes through JSON."""
    whole, resumed = SpikeDetector(spikes), SpikeDetector(spikes)
    for step, (loss, is_killed, other_data) in enumerate(acts):
        if is_killed:
            state: dict[str, Any] = json.loads(json.dumps(resumed.state()))
            resumed = SpikeDetector(spikes, **state)
        if other_data == 0:
            whole.restart()
            resumed.restart()
        assert resumed.see(step, loss) == whole.see(step, loss)
