"""Runs whose disk fills up, becomes read-only, exceeds its quota or is slow: real file systems, so these need root.

The fault comes in the middle of a save: after the room was found to suffice, before a rank's part is written.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.checkpoint.commit import committed_steps, faults, read_commit, step_name
from tests.faults.runs import Job, events, ledger, losses, rows, small_corpus_folder, write_recipe
from tests.system.disks import Disk, QuotaDisk, ReadOnlyDisk, SlowDisk, small_disk

_STEPS, _EVERY, _FAULT = 80, 10, 20
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


def settings(**checkpoints: Any) -> dict[str, Any]:
    every = {"every_steps": _EVERY, "keep_last": _STEPS // _EVERY}
    return {"duration": {"steps": _STEPS}, "checkpoints": every | checkpoints}


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


def ended_with(job: Job) -> str:
    """The one sentence that a job ended with, all of its ranks with status 2."""
    assert job.wait(60) == [2, 2], job.said()
    assert "Traceback" not in job.said()
    (sentence,) = re.findall(r"^tarmac: (.+)$", job.said(), re.MULTILINE)
    return sentence


def folders(run: Path) -> list[str]:
    """What lies beside each other in the folder of checkpoints, each of them whole but those with a suffix."""
    checkpoints = run / "checkpoints"
    for step in committed_steps(checkpoints):
        folder = checkpoints / step_name(step)
        assert not faults(folder, read_commit(folder).files)
    return sorted(path.name for path in checkpoints.iterdir())


def names(*steps: int) -> list[str]:
    return [step_name(step) for step in steps]


def assert_undisturbed(run: Path, plain: Path) -> None:
    """Losses and data of each step are those of a run to which nothing happened."""
    assert losses(run) == losses(plain)
    assert [ledger(run, rank) for rank in (0, 1)] == [ledger(plain, rank) for rank in (0, 1)]


def test_stop_keeps_the_older_checkpoint_and_the_same_command_resumes(disk: Disk, corpus: Path, plain: Path) -> None:
    recipe = write_recipe(disk.folder.with_name("run.yaml"), corpus, output=str(disk.run), **settings())
    with Held(recipe) as job:
        job.break_in_the_middle(disk)
        sentence = ended_with(job)
    assert re.search(rf"step {_FAULT} was not written \(.*rank 1: {disk.says}\); mend .*{disk.run}", sentence)
    half = [f"{step_name(_FAULT)}.partial"] if not disk.takes_removals else []
    assert folders(disk.run) == [*names(_EVERY), *half]
    with Job(recipe) as job:
        ended_with(job)
    disk.mend()
    with Job(recipe) as job:
        job.done()
    assert events(disk.run, "resume")[-1]["step"] == _EVERY
    assert folders(disk.run) == names(*range(_EVERY, _STEPS + 1, _EVERY))
    assert_undisturbed(disk.run, plain)


def test_continue_trains_on_and_saves_again_when_it_can(disk: Disk, corpus: Path, plain: Path) -> None:
    changes = settings(on_error="continue")
    recipe = write_recipe(disk.folder.with_name("run.yaml"), corpus, output=str(disk.run), **changes)
    log = recipe.with_suffix(".0.log")
    with Held(recipe) as job:
        job.break_in_the_middle(disk)
        job.wait_until(lambda: log.read_text().count("training goes on without it: ") >= 2)
        disk.mend()
        job.done()
    told = re.findall(r"training goes on without it: checkpoint of step (\d+)(.*)", log.read_text())
    failed = [int(step) for step, _ in told]
    assert failed == list(range(_FAULT, failed[-1] + 1, _EVERY))
    assert f"rank 1: {disk.says}" in told[0][1]
    noted = [row["reason"] for row in events(disk.run, "save_failed")]
    assert len(noted) + log.read_text().count("save_failed was not noted") == len(failed)
    assert folders(disk.run) == names(*sorted({*range(_EVERY, _STEPS + 1, _EVERY)} - {*failed}))
    assert_undisturbed(disk.run, plain)


def test_without_room_a_checkpoint_is_not_begun(tmp_path: Path, corpus: Path) -> None:
    """A checkpoint has 0.5 MB and wants 1 MiB to spare."""
    with small_disk(tmp_path / "disk") as disk:
        disk.leave(1_200 << 10)
        recipe = write_recipe(tmp_path / "run.yaml", corpus, output=str(disk.run), **settings())
        with Job(recipe) as job:
            sentence = ended_with(job)
        assert re.match(rf"checkpoint of step {_EVERY} needs 1\.\d MB, .* has [01]\.\d MB left; free ", sentence)
        assert folders(disk.run) == []


def test_training_goes_on_while_a_slow_disk_writes(tmp_path: Path, corpus: Path, plain: Path) -> None:
    every = _STEPS // 2
    with small_disk(tmp_path / "disk", SlowDisk) as disk:
        disk.fail()
        recipe = write_recipe(tmp_path / "run.yaml", corpus, output=str(disk.run), **settings(every_steps=every))
        with Job(recipe) as job:
            job.done()
        save = events(disk.run, "save")[0]
        assert save["seconds"] > SlowDisk.seconds_per_megabyte * save["bytes"] / 2e6  # two ranks write at once
        assert save["stall_seconds"] < save["seconds"] / 4
        begun = save["time"] - save["seconds"]
        logged = [row for row in rows(disk.run / "metrics.jsonl") if begun < row["time"] < save["time"]]
        assert len(logged) >= 5
        assert folders(disk.run) == names(every, _STEPS)
        assert_undisturbed(disk.run, plain)
