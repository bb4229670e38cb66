"""A shard that is corrupt or gone: named, and what the config says of it is done on all ranks alike."""

import shutil
from pathlib import Path

import pytest

from tests.faults.runs import Job, events, losses, write_recipe


@pytest.fixture
def damaged(tmp_path: Path, corpus: Path) -> Path:
    """A copy of the corpus with one byte of its tokens flipped."""
    shutil.copytree(corpus, tmp_path / "corpus")
    [shard] = (tmp_path / "corpus" / "shards" / "small").glob("*.tar")
    content = bytearray(shard.read_bytes())
    content[2048] ^= 1
    shard.write_bytes(content)
    return tmp_path / "corpus"


def test_a_corrupt_shard_ends_all_ranks_with_its_name(tmp_path: Path, damaged: Path) -> None:
    recipe = write_recipe(tmp_path / "run.yaml", damaged)
    with Job(recipe) as job:
        assert job.wait() == [2, 2]
    said = job.said()
    assert len([line for line in said.splitlines() if line.startswith("tarmac: ")]) == 1
    assert "small-000000" in said
    assert "Traceback" not in said


def test_a_missing_shard_ends_all_ranks_with_its_name(tmp_path: Path, damaged: Path) -> None:
    [shard] = (damaged / "shards" / "small").glob("*.tar")
    shard.unlink()
    recipe = write_recipe(tmp_path / "run.yaml", damaged)
    with Job(recipe) as job:
        assert job.wait() == [2, 2]
    assert "small-000000" in job.said()
    assert "Traceback" not in job.said()


def test_a_corrupt_chunk_is_left_out_where_that_is_wanted(tmp_path: Path, damaged: Path) -> None:
    data = {
        "type": "corpus", "sources": [{"corpus": str(damaged), "source": "small"}], "sequence_length": 32,
        "on_damage": "skip",
    }  # fmt: skip
    recipe = write_recipe(tmp_path / "run.yaml", damaged, data=data, duration={"steps": 5})
    with Job(recipe) as job:
        statuses = job.wait()
    assert statuses == [0, 0]
    assert "chunk 0 is damaged and left out" in job.said()
    assert sorted(losses(job.run)) == [1, 2, 3, 4, 5]
    assert events(job.run, "phase")
