"""What is kept and what is deleted, for any settings and figures: never the only good one."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.checkpoints import Checkpoints
from pipeline.engine.checkpoint.commit import committed_steps, step_name
from pipeline.engine.checkpoint.retention import delete_old, kept
from tests.unit.small import small_checkpoint

STEPS = st.lists(st.integers(1, 60), min_size=1, max_size=12, unique=True).map(sorted)
MEASURED = st.dictionaries(st.integers(0, 60), st.floats(0, 9), max_size=12)
SETTINGS = st.builds(
    Checkpoints,
    keep_last=st.integers(1, 6),
    keep_every_steps=st.one_of(st.none(), st.integers(1, 20)),
    keep_best=st.integers(0, 4),
)


def more(settings: Checkpoints, **changes: int | None) -> Checkpoints:
    return settings.model_copy(update=changes)


@given(STEPS, SETTINGS, MEASURED)
def test_the_newest_and_all_that_a_rule_names_are_kept(
    steps: list[int], settings: Checkpoints, measured: dict[int, float]
) -> None:
    stay = kept(steps, settings, measured)
    assert stay <= set(steps)
    assert set(steps[-settings.keep_last :]) <= stay
    every = settings.keep_every_steps
    assert every is None or {step for step in steps if step % every == 0} <= stay


@given(STEPS, SETTINGS, MEASURED)
def test_keeping_more_deletes_nothing_more(steps: list[int], settings: Checkpoints, measured: dict[int, float]) -> None:
    stay = kept(steps, settings, measured)
    assert stay <= kept(steps, more(settings, keep_last=settings.keep_last + 1), measured)
    assert stay <= kept(steps, more(settings, keep_best=settings.keep_best + 1), measured)
    assert kept(steps, more(settings, keep_every_steps=None), measured) <= stay
    assert kept(steps, more(settings, keep_last=len(steps)), measured) == set(steps)


@given(STEPS, SETTINGS, MEASURED)
def test_what_was_deleted_is_not_missed(steps: list[int], settings: Checkpoints, measured: dict[int, float]) -> None:
    """Asked again of what stayed, as after a resume, retention deletes nothing."""
    stay = sorted(kept(steps, settings, measured))
    assert kept(stay, settings, measured) == set(stay)


@given(STEPS, st.integers(1, 4), MEASURED)
def test_no_other_is_better_than_the_best(steps: list[int], number: int, measured: dict[int, float]) -> None:
    def value(step: int) -> float:
        return measured[max(at for at in measured if at <= step)]

    known = [step for step in steps if any(at <= step for at in measured)]
    best = kept(steps, Checkpoints(keep_last=1, keep_best=number), measured)
    assert len(best & set(known)) >= min(number, len(known))
    gone = [step for step in known if step not in best]
    assert all(value(step) >= sorted(map(value, known))[number - 1] for step in gone)


def test_the_last_figure_up_to_a_checkpoint_is_its_own() -> None:
    measured = {3: 2.0, 6: 1.0, 9: 5.0}
    assert kept([4, 8, 12], Checkpoints(keep_last=1, keep_best=1), measured) == {8, 12}
    assert kept([4, 8, 12], Checkpoints(keep_last=1, keep_best=1), {4: 1.0, 8: 2.0}) == {4, 12}
    assert kept([2, 4, 12], Checkpoints(keep_last=1, keep_best=2), measured) == {4, 12}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    for step in (2, 4, 6, 8):
        small_checkpoint(tmp_path / "checkpoints", step, {"master/w": torch.full((2, 3), float(step))})
    return tmp_path / "checkpoints"


def test_old_ones_are_deleted(checkpoints: Path) -> None:
    settings = Checkpoints(keep_last=1, keep_every_steps=4)
    assert delete_old(checkpoints, settings, {}) == [2, 6]
    assert committed_steps(checkpoints) == [4, 8]
    assert sorted(path.name for path in checkpoints.iterdir()) == [step_name(4), step_name(8)]
    assert delete_old(checkpoints, settings, {}) == []
    assert delete_old(checkpoints / "none", settings, {}) == []
    assert delete_old(checkpoints, Checkpoints(keep_last=1), {}, keep=[4]) == []
    assert delete_old(checkpoints, Checkpoints(keep_last=1), {}) == [4]


@pytest.mark.parametrize("damage", ["cut", "gone", "no commit", "no record"])
def test_nothing_is_deleted_as_long_as_the_newest_is_damaged(checkpoints: Path, damage: str) -> None:
    newest = checkpoints / step_name(8)
    state, commit = newest / "state" / "rank-00000.safetensors", newest / "COMMIT.json"
    match damage:
        case "cut":
            state.write_bytes(state.read_bytes()[:-1])
        case "gone":
            state.unlink()
        case "no commit":
            commit.unlink()
        case "no record":
            commit.write_bytes(commit.read_bytes()[:-20])
    assert delete_old(checkpoints, Checkpoints(keep_last=1), {}) == []
    assert committed_steps(checkpoints) == [2, 4, 6, 8]
