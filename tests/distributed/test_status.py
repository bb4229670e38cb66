"""A run is looked at and stopped by its folder alone."""

import re
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.errors import RunError
from pipeline.runtime.signals import EXIT_INTERRUPTED
from pipeline.stages.status import status_of, stop
from tests.faults.runs import Job, events, losses, small_corpus_folder, write_recipe


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus_folder(tmp_path_factory.mktemp("corpus"))


def test_a_run_is_stopped_saved_and_goes_on(corpus, tmp_path, capsys):
    recipe = write_recipe(tmp_path / "run.yaml", corpus, duration={"steps": 150})
    with Job(recipe) as job:
        job.wait_for_step(12)
        status = status_of(job.run)
        assert re.fullmatch(r"trains: process \d+ on \S+", status.words)
        assert status.num_steps == 150
        assert status.seconds_left > 0
        stop(job.run, wait_seconds=60)
        assert job.wait() == [EXIT_INTERRUPTED] * 2
    (end,) = events(job.run, "end")
    assert end["reason"] == "tarmac stop"
    status = status_of(job.run)
    assert (status.words, status.step, status.seconds_left) == ("stopped: tarmac stop", end["step"], None)
    assert not (job.run / "stop").exists()
    with pytest.raises(RunError, match="does not train now; there is nothing to stop"):
        stop(job.run)
    (job.run / "stop").touch()  # asked between two starts: it is for none of them
    with Job(recipe) as job:
        job.done()
    (again,) = events(job.run, "resume")
    assert again["step"] == end["step"]  # what was saved when it was asked
    assert list(losses(job.run)) == list(range(1, 151))
    assert status_of(job.run).words == "done"
    assert cli.main(["status", str(job.run)]) in (0, None)
    said = capsys.readouterr().out
    assert "150 of 150" in said
    assert "done" in said


def test_what_is_no_run_is_told(tmp_path, monkeypatch):
    with pytest.raises(RunError, match="has no config"):
        stop(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["status"]) == 2
