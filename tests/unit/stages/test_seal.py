"""What a run's checkpoints mean nothing without is vouched for by their commits, and checked before it is used."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.data import CorpusData
from pipeline.errors import CheckpointError, RunError
from pipeline.stages.run_folder import read_run
from pipeline.stages.trained import load_base
from pipeline.stages.verify import verify
from tests.unit.small import small_model, small_run, small_tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed")
    tokenizer = small_tokenizer(folder / "tokenizer")
    source = {"corpus": "unused", "source": "small"}
    data = {"type": "corpus", "sources": [source], "sequence_length": 32}
    return small_run(folder / "run", tokenizer, small_model(tokenizer.vocab_size), data)


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def replaced(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "tokenizer/tokenizer.model": lambda run: replaced(run / "tokenizer/tokenizer.model", b"value", b"valve"),
    "tokenizer/tokenizer.json": lambda run: (run / "tokenizer/tokenizer.json").write_text("{}"),
    "model.json": lambda run: replaced(run / "model.json", b'"rms_norm_eps": 1e-06', b'"rms_norm_eps": 1e-05'),
    "config.yaml": lambda run: replaced(run / "config.yaml", b"seed: 0", b"seed: 1"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_before_anything_is_used(run: Path, name: str) -> None:
    DAMAGE[name](run)
    with pytest.raises(CheckpointError, match=rf"^run {run} is damaged: {name} changed since the run started; restore"):
        read_run(run)
    assert verify(run) == 1


def test_a_missing_file_is_named(run: Path) -> None:
    (run / "model.json").unlink()
    with pytest.raises(CheckpointError, match=r"model\.json cannot be read: No such file"):
        load_base(run, None)
    assert verify(run) == 1


def test_what_may_change_may_change(run: Path) -> None:
    replaced(run / "config.yaml", b"keep_last: 3", b"keep_last: 5")
    assert read_run(run).checkpoints.keep_last == 5
    assert isinstance(read_run(run).data, CorpusData)
    assert verify(run) == 0


def test_a_run_that_is_none_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nope does not exist; give the folder of a training run"):
        read_run(tmp_path / "nope")
