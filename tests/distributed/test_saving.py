"""Saving beside training: a writer that fails is told on all ranks at the next step; intervals of every kind."""

import pytest

from tests.distributed.jobs import run_job
from tests.faults.runs import Job, events, small_corpus_folder, write_recipe


def test_a_writer_that_fails_is_told_on_all_ranks_and_harms_nothing(tmp_path):
    """The limit is the kernel's, so the write really fails, on one rank, in the middle of its file."""
    body = "tests.distributed.saving_body:one_rank_cannot_write"
    one, other = run_job(body, 2, tmp_path / "job", checkpoints=str(tmp_path / "checkpoints"))
    assert one == other
    assert one["error"].startswith("checkpoint of step 2 was not written (rank 1: File too large); mend the file")
    assert one["error"].endswith("; the checkpoints before are untouched")
    assert one["steps beside"] >= 1
    assert one["after"] == [1]
    assert one["left"] == ["step-00000001"]
    assert one["third"] is None
    assert one["at last"] == [1, 3]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small_corpus_folder(tmp_path_factory.mktemp("saving"))


def test_checkpoints_come_by_tokens(tmp_path, corpus):
    step_tokens = 8 * 32
    recipe = write_recipe(
        tmp_path / "run.yaml", corpus, duration={"steps": 20},
        checkpoints={"every_tokens": 3 * step_tokens + 1, "keep_last": 20},
    )  # fmt: skip
    with Job(recipe) as job:
        job.done()
    assert [event["step"] for event in events(job.run, "save")] == [4, 7, 10, 13, 16, 19, 20]


def test_checkpoints_come_by_the_clock_after_the_same_step_on_all_ranks(tmp_path, corpus):
    recipe = write_recipe(
        tmp_path / "run.yaml", corpus, duration={"steps": 200}, checkpoints={"every_minutes": 0.01, "keep_last": 99}
    )
    with Job(recipe) as job:
        job.done()
    saves = events(job.run, "save")
    assert saves[-1]["step"] == 200
    assert len(saves) >= 3
