"""A loss that jumps: back to the last checkpoint before it, past its data, and on; also when killed on the way."""

from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from tests.faults.runs import Job, events, last_step, ledger, losses, rows, write_recipe

BATCH = 8
NOISE = [43 * BATCH, 46 * BATCH]
"""Samples of steps 44 to 46."""


def settings(**changes: Any) -> dict[str, Any]:
    spikes = {"action": "rollback", "window_steps": 16, "threshold": 8, "consecutive_steps": 3, **changes}
    return {
        "duration": {"steps": 80}, "checkpoints": {"every_steps": 2, "keep_last": 6}, "faults": {"spikes": spikes},
        "optimizer": {"type": "adamw", "lr": 0.003},
    }  # fmt: skip


def noisy(recipe: Path, world_size: int = 2) -> Job:
    return Job(recipe, world_size, call="tests.faults.injected:noisy", more=NOISE)


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    recipe = write_recipe(tmp_path_factory.mktemp("spikes") / "run.yaml", corpus, **settings())
    with noisy(recipe) as job:
        job.done()
    return job.run


def test_the_run_goes_back_before_the_spike_and_past_its_data(rolled_back: Path) -> None:
    [rollback] = events(rolled_back, "rollback")
    assert (rollback["step"], rollback["branch"]) == (42, 1)
    assert rollback["from_step"] in (47, 48, 49)
    assert rollback["skipped_steps"] == rollback["from_step"] - 42
    names = {path.name for path in (rolled_back / "checkpoints").iterdir()}
    assert {"step-00000044.abandoned-1", "step-00000046.abandoned-1"} <= names
    curve = losses(rolled_back)
    assert max(curve[step] for step in range(43, 81)) < curve[30]
    assert [event["branch"] for event in events(rolled_back, "save") if event["step"] == 44] == [0, 1]


def test_killed_after_the_rollback_it_goes_on_as_if_not(tmp_path: Path, corpus: Path, rolled_back: Path) -> None:
    """Killed before the spike, after its first steps, and after the rollback: the same decisions, bit by bit."""
    recipe = write_recipe(tmp_path / "run.yaml", corpus, **settings())
    run = recipe.with_suffix("")
    for reached in (lambda: last_step(run) >= 45, lambda: events(run, "rollback") and last_step(run) >= 60):
        with noisy(recipe) as job:
            job.wait_until(reached)
            job.send(SIGKILL, 1)
            job.wait(30)
    with noisy(recipe) as job:
        job.done()
    assert [event["step"] for event in events(run, "rollback")] == [42]
    assert losses(run) == losses(rolled_back)
    for rank in (0, 1):
        assert dict(last_lines(run, rank)) == dict(last_lines(rolled_back, rank))


def last_lines(run: Path, rank: int) -> list[tuple[int, str]]:
    """Digest of each step, as it was made last."""
    return [(row["step"], row["digest"]) for row in rows(run / "ledger" / f"rank-{rank:05d}.jsonl")]


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"action": "warn"}, 0, "robust deviations above the median"),
        ({"max_rollbacks": 0}, 1, "as often as faults.spikes.max_rollbacks allows"),
    ],
)
def test_a_spike_is_told_of_where_it_is_not_rolled_back(
    tmp_path: Path, corpus: Path, changes: dict[str, Any], status: int, said: str
) -> None:
    recipe = write_recipe(tmp_path / "run.yaml", corpus, **settings(**changes))
    with noisy(recipe, 1) as job:
        assert job.wait() == [status]
    assert said in job.said()
    assert "Traceback" not in job.said()
    assert not events(job.run, "rollback")
    assert events(job.run, "spike")[0]["first_step"] in (44, 45)
    assert ledger(job.run, 0)
