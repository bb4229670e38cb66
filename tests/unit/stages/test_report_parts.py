import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.report.history import sessions, standing_rows
from pipeline.stages.report.points import axis, points, script_json, thin


def row(step: int, time: float, loss: float | None = 1.0) -> dict[str, Any]:
    return {"step": step, "time": time, "train/loss": loss}


def resume(step: int, time: float, event: str = "resume") -> dict[str, Any]:
    return {"event": event, "time": time, "step": step, "world_size": 2}


def test_rows_done_again_are_replaced_and_others_wait() -> None:
    before = [row(step, step, loss=1) for step in (10, 20, 30, 40, 50)]
    events = [resume(0, 0, "start"), resume(20, 100)]
    kept = standing_rows([*before, row(30, 101, loss=2), row(35, 102, loss=2)], events, "train/loss")
    assert [(one["step"], one["train/loss"]) for one in kept] == [(10, 1), (20, 1), (30, 2), (35, 2), (40, 1), (50, 1)]


def test_a_row_whose_step_is_passed_but_not_logged_again_is_void() -> None:
    rows = [row(25, 1), row(30, 2), row(28, 101), row(36, 102)]
    kept = standing_rows(rows, [resume(0, 0, "start"), resume(20, 100)], "train/loss")
    assert [one["step"] for one in kept] == [28, 36]


def test_a_rollback_leaves_rows_behind_as_a_restart_does() -> None:
    events = [resume(0, 0, "start"), resume(20, 100, "rollback")]
    kept = standing_rows([row(10, 1), row(20, 2), row(30, 3, loss=9), row(30, 101, loss=2)], events, "train/loss")
    assert [(one["step"], one["train/loss"]) for one in kept] == [(10, 1), (20, 1), (30, 2)]


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e9)), max_size=30))
def test_neither_tokens_nor_seconds_ever_fall_on_the_axis(told: list[tuple[float, float]]) -> None:
    rows = [{"step": step, "time": 50 + time, "train/tokens": tokens} for step, (time, tokens) in enumerate(told)]
    found = axis(rows, 50)
    assert [step for step, *_ in found] == list(range(len(told)))
    for column in (1, 2):
        assert [one[column] for one in found] == sorted(one[column] for one in found)
    if told:
        assert found[-1][1] == max(tokens for _, tokens in told)


def test_a_long_axis_keeps_its_ends() -> None:
    found = axis([{"step": step, "time": float(step), "train/tokens": 2.0 * step} for step in range(5003)], 0)
    assert (found[0], found[-1]) == ((0, 0, 0), (5002, 10004, 5002))
    assert len(found) <= 2001


def test_rows_without_the_key_do_not_stand() -> None:
    assert standing_rows([row(1, 1, None), {"step": 2, "time": 2}], [], "train/loss") == []


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)), min_size=1, max_size=6))
def test_the_last_session_that_did_a_step_decides(story: list[tuple[int, int]]) -> None:
    """Each session goes back to some earlier step and does a number of steps; every step is logged."""
    rows, events, decided = [], [], {}
    position, time = 0, 0.0
    for number, (wish, done) in enumerate(story):
        start = min(wish, position)
        events.append(resume(start, time := time + 1))
        for step in range(start + 1, start + done + 1):
            rows.append(row(step, time := time + 1, loss=number))
            decided[step] = number
        position = start + done
    kept = standing_rows(rows, events, "train/loss")
    assert [(one["step"], one["train/loss"]) for one in kept] == sorted(decided.items())


def test_sessions_end_where_they_were_last_heard_of() -> None:
    events = [resume(0, 100, "start"), resume(20, 200), {"event": "end", "time": 260, "step": 40, "reason": "complete"}]
    first, second = sessions([row(10, 110), row(20, 130), row(30, 150), row(30, 230)], events)
    assert (first.ended, first.last_step, first.reason) == (150, 30, None)
    assert (second.started, second.ended, second.last_step, second.reason) == (200, 260, 40, "complete")


@given(st.lists(st.floats(-1e6, 1e6), max_size=300), st.integers(4, 60))
def test_thinning_keeps_ends_extremes_and_order(values: list[float], limit: int) -> None:
    series = list(enumerate(values))
    kept = thin(series, limit)
    assert kept == sorted(set(kept) & set(series))
    assert len(kept) <= limit + 4
    if series:
        assert {series[0], series[-1]} <= set(kept)
        assert min(values) == min(value for _, value in kept)
        assert max(values) == max(value for _, value in kept)


def test_points_leave_out_what_cannot_be_drawn() -> None:
    rows = [row(1, 1, 2.0), row(2, 2, math.nan), row(3, 3, math.inf), row(4, 4, None), row(5, 5, 3)]
    assert points(rows, "train/loss") == [(1, 2.0), (5, 3)]


@given(st.text(), st.text(alphabet="<>/!-&script"))
def test_json_in_a_script_can_neither_close_it_nor_change(plain: str, hostile: str) -> None:
    text = script_json({"a": plain, "b": hostile})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"a": plain, "b": hostile}
