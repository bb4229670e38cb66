"""`tarmac verify` finds every kind of damage to a corpus, and `--repair` makes the bad parts again, and only these."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.config.load import dump
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.index import index_path
from pipeline.corpus.verification import shard_files
from tests.integration.test_prep import config_for, contents, inputs, run

__all__ = ["inputs"]


def flip_a_bit(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.unlink()  # the work folder has the same file under another name
    shard.write_bytes(content)


def flip_a_bit_in_place(shard: Path) -> None:
    with shard.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)[0] ^ 1
        file.seek(1000)
        file.write(bytes([byte]))


def cut_at_a_member(shard: Path) -> None:
    with tarfile.open(shard) as tar:
        start = tar.getmembers()[-3].offset
    content = shard.read_bytes()[:start]
    shard.write_bytes(content + bytes(-len(content) % 10240))


def lose_it(shard: Path) -> None:
    shard.unlink()


def spoil_the_index(shard: Path) -> None:
    path = index_path(shard)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def spoil_the_tokenizer(shard: Path) -> None:
    path = shard.parents[2] / "tokenizer" / "tokenizer.model"
    content = path.read_bytes().replace(b"the", b"thq")
    path.unlink()
    path.write_bytes(content)


def spoil_the_tokenizer_in_place(shard: Path) -> None:
    path = shard.parents[2] / "tokenizer" / "tokenizer.model"
    path.write_bytes(path.read_bytes().replace(b"the", b"thq"))


@pytest.fixture
def corpus(inputs: Path, tmp_path: Path) -> Corpus:
    config = config_for(inputs, tmp_path / "out")
    (tmp_path / "prep.yaml").write_text(dump(config))
    return run(config)


@pytest.mark.parametrize(
    ("damage", "keep"),
    [
        (flip_a_bit, True),
        (flip_a_bit_in_place, True),
        (cut_at_a_member, True),
        (lose_it, True),
        (spoil_the_index, True),
        (spoil_the_tokenizer_in_place, True),
        (flip_a_bit, False),
        (spoil_the_tokenizer, False),
    ],
)
def test_damage_is_found_and_repaired(
    corpus: Corpus, tmp_path: Path, damage: Callable[[Path], None], keep: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = contents(corpus)
    files = shard_files(corpus)
    damage(files[1].path)
    untouched = {file.path: file.path.stat().st_ino for file in files if file is not files[1]}
    if not keep:
        shutil.rmtree(tmp_path / "out.work")
    assert main(["verify", str(corpus.folder)]) == 1
    assert contents(corpus) != whole
    assert main(["verify", str(corpus.folder), "--repair", str(tmp_path / "prep.yaml")]) == 0
    assert contents(corpus) == whole
    assert {path: path.stat().st_ino for path in untouched} == untouched
    capsys.readouterr()


def test_repair_wants_the_config_that_made_it(
    corpus: Corpus, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lose_it(shard_files(corpus)[0].path)
    (tmp_path / "other.yaml").write_text(dump(config_for(inputs, tmp_path / "out", seed=3)))
    assert main(["verify", str(corpus.folder), "--repair", str(tmp_path / "other.yaml")]) == 2
    assert "made by another config" in capsys.readouterr().err
