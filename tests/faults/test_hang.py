"""A rank that stops answering: stacks of all ranks, an exit status of its own, within the configured time."""

import json
import signal
import time
from pathlib import Path

from tests.faults.runs import Job, events, write_recipe

SECONDS = 15  # a start takes some, on a busy machine several


def test_a_stopped_rank_ends_the_job_and_is_named(tmp_path: Path, corpus: Path) -> None:
    recipe = write_recipe(tmp_path / "run.yaml", corpus, duration={"steps": 5000}, faults={"watchdog_seconds": SECONDS})
    with Job(recipe) as job:
        job.wait_for_step(5)
        job.send(signal.SIGSTOP, 1)
        start = time.monotonic()
        assert job.ranks[0].wait(SECONDS + 30) == 86
        assert time.monotonic() - start < SECONDS + 25
    said = job.said()
    assert "rank 1 on" in said
    assert "did not answer: stopped, dead or cut off" in said
    stacks = (job.run / "stacks" / "rank-00000.txt").read_text()
    assert json.loads(stacks.splitlines()[0])["rank"] == 0
    assert "in Session._train" in stacks  # waiting in a collective, and which one
    with Job(recipe, 2, "faults.watchdog_seconds=600", "duration.steps=60") as job:
        job.done()


def test_a_rank_that_hangs_by_itself_shows_where(tmp_path: Path, corpus: Path) -> None:
    recipe = write_recipe(tmp_path / "run.yaml", corpus, faults={"watchdog_seconds": SECONDS})
    with Job(recipe, call="tests.faults.injected:stuck", more=[1, 7]) as job:
        assert job.wait(90) == [86, 86]
    (hang,) = events(job.run, "hang")
    assert hang["reason"].startswith("hang: ")
    stacks = [(job.run / "stacks" / f"rank-{rank:05d}.txt").read_text() for rank in (0, 1)]
    assert "all_reduce" in stacks[0]  # waits for the other
    assert "all_reduce" not in stacks[1]
    assert "in stuck.<locals>.sleeping" in stacks[1]
    assert json.loads(stacks[1].splitlines()[0])["doing"] == "step 7: training"
