"""`tarmac verify` finds every kind of damage to a corpus, and `--repair` makes the bad parts again, and only these."""

import shutil
import tarfile
import threading
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


def test_repair_looks_at_several_shards_at_a_time(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2, timeout=20)
    monkeypatch.setattr("data_prep.repair.shard_files", lambda corpus: shard_files(corpus)[:8])
    monkeypatch.setattr("data_prep.repair.shard_fault", lambda path, entry: None if together.wait() < 2 else "no")
    assert main(["verify", str(corpus.folder), "--repair", str(tmp_path / "prep.yaml")]) == 0


def test_repair_wants_the_config_that_made_it(
    corpus: Corpus, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lose_it(shard_files(corpus)[0].path)
    (tmp_path / "other.yaml").write_text(dump(config_for(inputs, tmp_path / "out", seed=3)))
    assert main(["verify", str(corpus.folder), "--repair", str(tmp_path / "other.yaml")]) == 2
    assert "made by another config" in capsys.readouterr().err


def change_a_byte(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])


@pytest.mark.parametrize(
    "name", ["stats.json", "rejects/web.jsonl", "pairs/train.jsonl", "dropped/code-000000.jsonl.zst"]
)
@pytest.mark.parametrize("damage", [change_a_byte, lose_it])
def test_damage_to_what_is_no_shard_is_named(
    damage: Callable[[Path], None], name: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = run(config_for(inputs, tmp_path / "out", write_dropped=True))
    assert main(["verify", str(corpus.folder)]) == 0
    damage(corpus.folder / name)
    capsys.readouterr()
    assert main(["verify", str(corpus.folder)]) == 1
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│") and "good" not in line]
    assert name in bad[0]


def test_damage_to_the_manifest_is_told(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    path = corpus.folder / "manifest.json"
    path.write_text(path.read_text().replace('"documents": 1', '"documents": 2', 1))
    assert main(["verify", str(corpus.folder)]) == 2
    assert "manifest.json is damaged: it does not fit its own checksum" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["shards/web/web-000999.tar", "index/test/code/x.npy", "rejects/old.jsonl", ".next/stats.json", "test/a"]
)
def test_a_stray_file_is_named_and_the_same_command_deletes_it(
    name: str, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = contents(corpus)
    (corpus.folder / name).parent.mkdir(parents=True, exist_ok=True)
    (corpus.folder / name).write_text("stray")
    assert main(["verify", str(corpus.folder)]) == 1
    said = capsys.readouterr().out
    assert name in said
    assert "is not named by the manifest" in " ".join(said.replace("│", " ").split())
    assert main(["prep", str(tmp_path / "prep.yaml")]) == 0
    assert contents(corpus) == whole
    assert main(["verify", str(corpus.folder)]) == 0


def test_notes_beside_the_corpus_are_nobodys_affair(corpus: Corpus, tmp_path: Path) -> None:
    (corpus.folder / "README.md").write_text("mine")
    assert main(["verify", str(corpus.folder)]) == 0
    assert main(["prep", str(tmp_path / "prep.yaml")]) == 0
    assert (corpus.folder / "README.md").exists()
