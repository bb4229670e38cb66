"""Rows of metrics: what they are made of, and that a resumed run writes the same."""

import json
import math
import time
from collections import Counter
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.batch import IGNORED, Batch, MicroBatch
from pipeline.engine.engine import Engine
from pipeline.engine.stopwatch import Stopwatch
from pipeline.train.hooks.metrics import MetricsHook, Totals
from pipeline.train.loop import StepInfo
from tests.unit.train.rows import Rows

TOKENS = [60, 64, 70, 96, 90, 10]
"""Of each step, those that predict something; 64 positions in the first two steps, then 96."""

EVERY = 4
"""Steps of a row."""

SOURCES = ("first", "second")


def room(step: int) -> Counter[int]:
    return Counter({32: 64 * min(step, 2), 48: 96 * max(0, step - 2)})


def hook_of(tracker: Rows, totals: Totals) -> MetricsHook:
    ranks = SimpleNamespace(is_main=True, world_size=1)
    group = SimpleNamespace(ranks=ranks, sum=lambda tensor: tensor, max=lambda value: value)
    engine: Any = SimpleNamespace(
        group=group,
        mesh=SimpleNamespace(ranks_per_row=1),
        norm_name="gradient",
        norm=lambda: 1.0,
        learning_rate=lambda: 1e-3,
    )
    return MetricsHook(cast(Engine, engine), tracker, EVERY, totals, room, flops=lambda length: float(length), peak=1e6,
                       squared_norm=lambda: torch.tensor(9.0), sources=SOURCES)  # fmt: skip


def info(step: int, skipped: bool = False) -> StepInfo:
    """A step whose loss is 2 per token, and a half more with each step; one that was skipped has none.

    Two thirds of its tokens are of a row of the second source, the others of the first, and a row is empty.
    """
    tokens = TOKENS[step - 1]
    of_rows = torch.tensor([tokens - tokens * 2 // 3, tokens * 2 // 3, 0])
    labels = torch.where(torch.arange(96) < of_rows[:, None], 1, IGNORED)
    batch = Batch(step - 1, (MicroBatch(labels, labels),), torch.tensor([0, 1, -1]))
    per_token = math.nan if skipped else 1.5 + step / 2
    return StepInfo(step, batch, torch.tensor(per_token * tokens), torch.tensor(tokens), "", 1.0, 0.5,
                    step == len(TOKENS), skipped, data_seconds=0.1, hooks_seconds=0.2, times=times(),
                    row_sums=(per_token * of_rows).float())  # fmt: skip


def times() -> Stopwatch:
    """Of a step with a part that takes some time."""
    stopwatch = Stopwatch(torch.device("cpu"))
    with stopwatch.running("forward"):
        time.sleep(0.002)
    return stopwatch


def test_a_row_tells_how_much_of_the_sequences_is_used() -> None:
    tracker = Rows()
    hook = hook_of(tracker, Totals())
    for step in range(1, 7):
        hook(info(step))
    assert [step for step, _ in tracker.rows] == [4, 6]
    assert [row["train/tokens"] for _, row in tracker.rows] == [290.0, 390.0]
    assert [row["train/utilisation"] for _, row in tracker.rows] == [290 / 320, 100 / 192]
    first = tracker.rows[0][1]
    assert first["perf/tokens_per_second"] == pytest.approx(320 / 2, rel=0.05)
    assert first["perf/mfu"] == pytest.approx((128 * 32 + 192 * 48) / 2 / 1e6, rel=0.05)


def test_a_row_tells_what_steps_spend_their_time_on() -> None:
    tracker = Rows()
    hook = hook_of(tracker, Totals())
    for step in range(1, 5):
        hook(info(step))
    row = cast(dict[str, float], tracker.rows[0][1])
    assert row["perf/data_seconds"] == pytest.approx(0.1)
    assert row["perf/hooks_seconds"] == pytest.approx(0.2)
    assert 0.002 <= row["perf/forward_seconds"] < 30
    assert row["perf/backward_seconds"] == row["perf/optimizer_seconds"] == row["perf/communication_seconds"] == 0
    inside = row["perf/data_seconds"] + row["perf/forward_seconds"]
    assert row["perf/other_share"] == pytest.approx(1 - inside / row["perf/step_seconds"])
    assert row["train/parameter_norm"] == 3
    assert row["perf/memory_bytes"] > 1e6


def test_throughput_counts_steps_whose_update_was_skipped() -> None:
    tracker = Rows()
    hook = hook_of(tracker, Totals())
    for step in range(1, 5):
        hook(info(step, skipped=step > 1))
    assert tracker.rows[0][1]["perf/tokens_per_second"] == pytest.approx(320 / 2, rel=0.05)


@given(st.lists(st.booleans(), min_size=6, max_size=6))
def test_a_row_is_made_of_the_updates_that_were_made(skipped: list[bool]) -> None:
    tracker = Rows()
    hook = hook_of(tracker, Totals())
    for step in range(1, 7):
        hook(info(step, skipped[step - 1]))
    for (end, row), steps in zip(tracker.rows, (range(1, 5), range(5, 7)), strict=True):
        made = [step for step in steps if not skipped[step - 1]]
        tokens = sum(TOKENS[step - 1] for step in made)
        losses = sum((1.5 + step / 2) * TOKENS[step - 1] for step in made)
        positions = sum(64 if step <= 2 else 96 for step in made)
        assert row["train/loss"] == (losses / tokens if made else None)
        assert row["train/utilisation"] == (tokens / positions if made else None)
        second = [TOKENS[step - 1] * 2 // 3 for step in made]
        weighted = sum(number * (1.5 + step / 2) for number, step in zip(second, made, strict=True))
        assert row.get("train/loss/second") == (pytest.approx(weighted / sum(second)) if made else None)
        assert ("train/loss/first" in row) == bool(made)
        assert row["train/tokens"] == sum(TOKENS[n] for n in range(end) if not skipped[n])
        assert row["train/skipped_updates"] == sum(skipped[:end])
    assert hook.skipped_in_a_row == next((n for n, one in enumerate(reversed(skipped)) if not one), 6)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=6, max_size=6), st.integers(1, 5))
def test_a_resumed_run_writes_the_same_rows(skipped: list[bool], stop: int) -> None:
    whole, parts = Rows(), Rows()
    one = hook_of(whole, Totals())
    for step in range(1, 7):
        one(info(step, skipped[step - 1]))
    before = hook_of(parts, Totals())
    for step in range(1, stop + 1):
        before(info(step, skipped[step - 1]))
    after = hook_of(parts, Totals(**json.loads(json.dumps(asdict(before.totals()), allow_nan=False))))
    for step in range(stop + 1, 7):
        after(info(step, skipped[step - 1]))

    def seen(tracker: Rows) -> list[tuple[int, dict[str, float | None]]]:
        return [(step, {key: row[key] for key in row if key.startswith("train/")}) for step, row in tracker.rows]

    assert seen(parts) == seen(whole)
    assert after.totals() == one.totals()
