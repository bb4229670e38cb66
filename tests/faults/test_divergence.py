"""A loss that is no number any more: updates are skipped on all ranks and counted, and then the run ends."""

from pathlib import Path

from tests.faults.runs import Job, events, losses, rows, write_recipe


def test_a_run_that_diverges_ends_with_the_documents_named(tmp_path: Path, corpus: Path) -> None:
    """A learning rate that nothing can bear: the first update makes weights of which no loss is a number."""
    recipe = write_recipe(
        tmp_path / "run.yaml", corpus, optimizer={"type": "adamw", "lr": 1e30},
        faults={"max_skipped_updates": 4}, checkpoints={"every_steps": 3},
    )  # fmt: skip
    with Job(recipe) as job:
        assert job.wait() == [1, 1]
    said = job.said()
    [sentence] = [line for line in said.splitlines() if line.startswith("tarmac: ")]
    assert "updates in a row" in sentence
    assert "faults.max_skipped_updates is 4" in sentence
    assert "small.txt" in sentence
    assert "tarmac explain" in sentence
    assert "Traceback" not in said
    assert [loss is None for loss in losses(job.run).values()][-3:] == [True] * 3
    assert rows(job.run / "metrics.jsonl")[-1]["train/skipped_updates"] >= 4
    assert [event["in_a_row"] for event in events(job.run, "skipped")] == [1, 2, 3, 4]
    assert events(job.run, "end")[-1]["status"] == 1
    assert not events(job.run, "save")  # weights that give no loss take no good checkpoint's place
