"""Runs whose disk fills up, becomes read-only, exceeds its quota or is slow: real file systems, so these need root.

The fault comes in the middle of a save: after the room was found to suffice, before a rank's part is written.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.checkpoint.commit import committed_steps, faults, read_commit, step_name
from tests.faults.runs import Job, events, ledger, losses, rows, small_corpus_folder, write_recipe
from tests.system.disks import Disk, QuotaDisk, ReadOnlyDisk, set_slow_disk, small_disk

_STEPS, _EVERY, _FAULT = 120, 20, 40
"""Steps of a run, between its checkpoints, and of the checkpoint whose writing fails."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus_folder(tmp_path_factory.mktemp("disks"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """An undisturbed run."""
    recipe = write_recipe(tmp_path_factory.mktemp("plain") / "plain.yaml", corpus, **settings())
    with Job(recipe) as job:
        job.done()
    return job.run


@pytest.fixture(params=[Disk, ReadOnlyDisk, QuotaDisk])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk", request.param) as made:
        yield made


def settings(on_error: str = "stop", every: int = _EVERY) -> dict[str, Any]:
    return {
        "duration": {"steps": _STEPS},
        "checkpoints": {"every_steps": every, "keep_last": _STEPS // _EVERY, "on_error": on_error},
    }


def recipe_on(disk: Path, corpus: Path, **changes: Any) -> Path:
    """A recipe whose run folder lies on the disk; recipe and logs do not."""
    return write_recipe(disk.with_name("run.yaml"), corpus, output=str(disk / "run"), **changes)


class Held(Job):
    """A job in which rank 1 waits before it opens its part of the checkpoint that is to fail."""

    def __init__(self, recipe: Path) -> None:
        self._gate = recipe.with_name("gate")
        part = f"{step_name(_FAULT)}.partial/state/rank-00001.safetensors"
        super().__init__(recipe, call="tests.system.held:held", more=[part, str(self._gate)])

    def break_in_the_middle(self, disk: Disk) -> None:
        """Let the disk fail, and the rank go on."""
        self.wait_until(self._gate.with_name("gate.reached").exists)
        disk.fail()
        self._gate.with_name("gate.open").touch()


def assert_whole(run: Path, steps: list[int]) -> None:
    """Whether these are the run's checkpoints, every byte of them, and nothing half written lies beside them."""
    checkpoints = run / "checkpoints"
    assert committed_steps(checkpoints) == steps
    assert sorted(path.name for path in checkpoints.iterdir()) == [step_name(step) for step in steps]
    for step in steps:
        folder = checkpoints / step_name(step)
        assert not faults(folder, read_commit(folder).files)


def assert_undisturbed(run: Path, plain: Path) -> None:
    assert losses(run) == losses(plain)
    assert [ledger(run, rank) for rank in (0, 1)] == [ledger(plain, rank) for rank in (0, 1)]


def test_stop_keeps_the_older_checkpoint_and_the_same_command_resumes(disk: Disk, corpus: Path, plain: Path) -> None:
    recipe = recipe_on(disk.folder, corpus, **settings("stop"))
    with Held(recipe) as job:
        job.break_in_the_middle(disk)
        assert job.wait(60) == [2, 2]
    print(job.said())
    with Job(recipe) as job:
        print(job.wait(60))
    print(job.said())
    disk.mend()
    with Job(recipe) as job:
        job.done()
    print(job.said())
    run = disk.folder / "run"
    assert_whole(run, list(range(_EVERY, _STEPS + 1, _EVERY)))
    assert_undisturbed(run, plain)
    assert 0


def test_continue_trains_on_and_saves_again_when_it_can(disk: Disk, corpus: Path, plain: Path) -> None:
    recipe = recipe_on(disk.folder, corpus, **settings("continue"))
    log = recipe.with_name("run.0.log")
    with Held(recipe) as job:
        job.break_in_the_middle(disk)
        job.wait_until(lambda: log.read_text().count("training goes on without it") >= 2)
        disk.mend()
        job.done()
    print(job.said())
    print(events(disk.folder / "run"))
    assert 0
