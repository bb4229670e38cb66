"""What does not belong together: one sentence, exit status 2, nothing touched."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from tests.faults.runs import Job, copy_of, events, small_corpus_folder, write_recipe


def contents(run: Path) -> dict[str, str]:
    """Checksums of a run's files, but for those by which ranks find each other."""
    files = (path for path in run.rglob("*") if path.is_file() and path.name != "lock" and path.parent.name != "stacks")
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def other_tokenizer(run: Path) -> None:
    path = run / "tokenizer" / "tokenizer.model"
    path.write_bytes(path.read_bytes().replace(b"value", b"eulav"))


def other_model(run: Path) -> None:
    path = run / "model.json"
    path.write_text(path.read_text().replace('"rope_theta": 10000', '"rope_theta": 20000'))


def foreign_checkpoint(run: Path) -> None:
    """Of the same model, but of a run with another seed."""
    other = run.parent / "other" / "checkpoints" / "step-00000070"
    shutil.copytree(other, run / "checkpoints" / "step-00000070")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    recipe = write_recipe(tmp_path_factory.mktemp("other") / "other.yaml", corpus, seed=2, duration={"steps": 70})
    with Job(recipe, 1) as job:
        job.done()
    return job.run


@pytest.mark.parametrize(
    ("spoil", "changes", "sentence"),
    [
        (other_tokenizer, {}, "tokenizer/tokenizer.model changed since the run started"),
        (other_model, {}, "model.json changed since the run started"),
        (foreign_checkpoint, {}, "config.yaml changed since the run started"),
        (None, {"seed": 2}, "seed was 1, is 2"),
        (None, {"optimizer": {"type": "muon", "lr": 0.01}, "engine": {"gradient_clipping": 0}}, "optimizer.type was"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, corpus: Path, plain: Path, other: Path, spoil: Callable[[Path], None] | None, changes: dict,
    sentence: str,
) -> None:  # fmt: skip
    (tmp_path / "other").symlink_to(other)
    recipe = copy_of(plain, tmp_path / "run.yaml", corpus, **changes)
    run = recipe.with_suffix("")
    if spoil:
        spoil(run)
    before = contents(run)
    with Job(recipe) as job:
        assert job.wait() == [2, 2]
    said = job.said()
    assert sentence in said
    assert len([line for line in said.splitlines() if line.startswith("tarmac: ")]) == 1
    assert "Traceback" not in said
    assert contents(run) == before


def test_a_corpus_of_another_tokenizer_is_refused(tmp_path: Path, plain: Path) -> None:
    elsewhere = small_corpus_folder(tmp_path / "elsewhere", num_texts=300)
    recipe = copy_of(plain, tmp_path / "run.yaml", elsewhere)
    before = contents(recipe.with_suffix(""))
    with Job(recipe) as job:
        assert job.wait() == [2, 2]
    assert "Traceback" not in job.said()
    assert contents(recipe.with_suffix("")) == before


def test_ranks_that_cannot_be_are_told(tmp_path: Path, corpus: Path) -> None:
    recipe = write_recipe(tmp_path / "run.yaml", corpus)
    with Job(recipe, 1, environment={"RANK": "3"}) as job:
        assert job.wait() == [2]
    assert "RANK (3) must be below WORLD_SIZE (1)" in job.said()


def test_a_second_job_on_one_folder_is_refused_and_a_killed_one_holds_nothing(tmp_path: Path, corpus: Path) -> None:
    recipe = write_recipe(tmp_path / "run.yaml", corpus, duration={"steps": 5000})
    with Job(recipe, 1) as first:
        first.wait_for_step(2)
        second = write_recipe(tmp_path / "again.yaml", corpus, output=str(first.run), duration={"steps": 5000})
        with Job(second, 1) as job:
            assert job.wait() == [2]
        assert f"is in use by process {first.ranks[0].pid}" in job.said()
        first.send(SIGKILL, 0)
        first.wait()
    with Job(recipe, 1) as job:
        job.wait_until(lambda: "taken over" in job.said())
        job.wait_for_step(1)
        job.send(SIGTERM, 0)
        assert job.wait() == [85]


@pytest.mark.parametrize(
    ("steps", "checkpoints", "status"),
    [(60, {"every_steps": 10}, 0), (70, {"upload": "nowhere://bucket/run"}, 2)],
)
def test_a_start_that_trains_nothing_leaves_the_config_that_was_trained_by(
    tmp_path: Path, corpus: Path, plain: Path, steps: int, checkpoints: dict, status: int
) -> None:
    """A complete run, and one that fails before its first step; the next start is told what it would change."""
    optimizer = {"type": "adamw", "lr": 0.5}
    recipe = copy_of(
        plain, tmp_path / "run.yaml", corpus, optimizer=optimizer, duration={"steps": steps}, checkpoints=checkpoints
    )
    run = recipe.with_suffix("")
    before, told = (run / "config.yaml").read_text(), events(run)
    with Job(recipe) as job:
        assert job.wait() == [status, status]
    assert "Traceback" not in job.said()
    assert (run / "config.yaml").read_text() == before
    assert events(run) == told
