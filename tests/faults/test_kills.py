"""SIGKILL of a rank at any moment, also inside a save: nothing is lost but what was made since the last checkpoint."""

from pathlib import Path

from tests.faults import chaos
from tests.faults.runs import Job, write_recipe

KILLS = 10


def test_killed_over_and_over_the_run_ends_as_if_it_never_was(tmp_path: Path, corpus: Path) -> None:
    """The short form of `make chaos`."""
    settings = {
        "duration": {"steps": 20 + 3 * chaos.EVERY_STEPS * KILLS},
        "checkpoints": {"every_steps": chaos.EVERY_STEPS, "keep_last": 2},
        "tracking": {"log_every_steps": 5, "wandb": {"mode": "disabled"}},
    }
    plain = write_recipe(tmp_path / "plain.yaml", corpus, **settings)
    with Job(plain) as job:
        job.done()
    recipe = write_recipe(tmp_path / "killed.yaml", corpus, **settings)
    story = chaos.torment(recipe, KILLS, (2,), seed=1)
    assert story.in_saves >= 4
    assert max(story.ends) < 30
    assert max(story.lost_steps) <= 2 * chaos.EVERY_STEPS  # one interval, and what was made while files were written
    run = recipe.with_suffix("")
    assert chaos.wrong_samples(run, (2,)) == []
    assert chaos.weights_digest(run) == chaos.weights_digest(plain.with_suffix(""))
    assert not list((run / "checkpoints").glob("*.corrupt*"))
