"""Data preparation from files to a corpus."""

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
import zstandard
from rich.console import Console

from data_prep.documents.document import content_hash
from data_prep.stage import prep
from pipeline.cli import main
from pipeline.config.load import load, validate
from pipeline.config.prep.recipe import PrepConfig
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.manifest import Split
from pipeline.corpus.verification import shard_fault, shard_files
from pipeline.errors import ConfigError, CorpusError, TarmacError, TokenizerError
from pipeline.tokenizer.load import load_tokenizer
from tests.unit.small import small_texts

RECIPES = Path(__file__).parents[2] / "configs" / "data_prep"
SPLITS: tuple[Split, Split] = ("train", "validation")


def prose(number: int) -> str:
    words = ("the", "ship", "sails", "over", "a", "calm", "grey", "sea", "towards", "evening")
    return (
        f"Log {number}: " + " ".join(words[(number * 7 + step * step) % 10] for step in range(20 + number % 9)) + ".\n"
    )


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Two sources: 120 Python files and text in JSON lines, plain and compressed, with all that can go wrong."""
    folder = tmp_path / "inputs"
    (folder / "code" / "sub").mkdir(parents=True)
    for number, text in enumerate(small_texts(120)):
        (folder / "code" / ("sub" if number % 2 else "") / f"file{number}.py").write_text(text)
    (folder / "code" / "copy.py").write_text(small_texts(1)[0])
    (folder / "code" / "windows.py").write_bytes(small_texts(2)[1].replace("\n", "\r\n").encode())
    (folder / "code" / "short.py").write_text("x = 1\n")
    (folder / "code" / "binary.py").write_bytes(bytes(range(128, 256)) * 2)
    rows = [json.dumps({"body": prose(number)}) for number in range(150)]
    rows += [json.dumps({"body": small_texts(4)[3]}), json.dumps({"body": prose(0)}), "{broken", '{"other": 1}', ""]
    content = ["\n".join(rows[part::3]).encode() for part in range(3)]
    (folder / "web").mkdir()
    (folder / "web" / "a.jsonl").write_bytes(content[0])
    (folder / "web" / "b.jsonl.gz").write_bytes(gzip.compress(content[1]))
    (folder / "web" / "c.jsonl.zst").write_bytes(zstandard.compress(content[2]))
    return folder


def config_for(inputs: Path, output: Path, **values: Any) -> PrepConfig:
    sources = [
        {"name": "code", "reader": {"type": "text", "paths": [str(inputs / "code" / "**" / "*.py")]}},
        {"name": "web", "reader": {"type": "jsonl", "paths": [str(inputs / "web")], "text_field": "body"}},
    ]
    base = {
        "stage": "prep",
        "output": str(output),
        "sources": sources,
        "validation_share": 0.1,
        "cleaning": {"min_characters": 20},
        "tokenizer": {"type": "train", "vocab_size": 320},
        "shards": {"chunk_tokens": 256, "shard_tokens": 1024},
        "pairs": {"enabled": True},
        "workers": 1,
    }
    return validate(PrepConfig, {**base, **values}, "test")


def run(config: PrepConfig) -> Corpus:
    return Corpus(prep(config, Console(file=io.StringIO())))


def contents(corpus: Corpus) -> dict[str, bytes]:
    files = [
        path for path in corpus.folder.rglob("*") if path.is_file() and path.name not in ("prep.json", "report.html")
    ]
    return {path.relative_to(corpus.folder).as_posix(): path.read_bytes() for path in files}


def texts(corpus: Corpus, split: Split, source: str) -> dict[tuple[str, int], str]:
    """Texts by origin and position, decoded from the shards."""
    tokenizer = load_tokenizer(corpus.tokenizer_folder)
    found = {}
    for number, entry in enumerate(corpus.manifest.sources(split).get(source, [])):
        shard = corpus.open_shard(split, source, number)
        assert not shard.damaged_chunks()
        spans = list(shard.documents())
        assert len(spans) == entry.documents
        for span in spans:
            tokens = shard.tokens(span.start, span.stop).tolist()
            assert tokens.pop() == tokenizer.eos_id
            text = tokenizer.decode(tokens)
            assert len(text.encode()) == span.record.text_bytes
            found[span.record.origin, span.record.position] = text
    return found


def test_all_that_was_kept_is_in_the_shards_once(inputs: Path, tmp_path: Path) -> None:
    corpus = run(config_for(inputs, tmp_path / "out"))
    both = {source: {split: texts(corpus, split, source) for split in SPLITS} for source in ("code", "web")}
    code = [*both["code"]["train"].values(), *both["code"]["validation"].values()]
    web = [*both["web"]["train"].values(), *both["web"]["validation"].values()]
    assert sorted(code) == sorted(small_texts(120))
    assert sorted(web) == sorted(prose(number) for number in range(150))
    for splits in both.values():
        assert splits["train"]
        assert splits["validation"]
        assert not splits["train"].keys() & splits["validation"].keys()


def test_statistics_say_what_became_of_everything(inputs: Path, tmp_path: Path) -> None:
    corpus = run(config_for(inputs, tmp_path / "out"))
    statistics = corpus.manifest.statistics
    code, web = statistics["sources"]["code"], statistics["sources"]["web"]
    assert code["read"] == 124
    assert code["dropped"] == {"cleaning:too_short": 1, "cleaning:undecodable": 1, "duplicate": 2}
    assert web["dropped"] == {"duplicate": 2}
    assert sum(web["rejected"].values()) == 2
    assert (code["kept"], web["kept"]) == (120, 150)
    for source in (code, web):
        assert source["read"] == source["kept"] + sum(source["dropped"].values()) + sum(source["rejected"].values())
    shards = [file.entry for file in shard_files(corpus)]
    assert statistics["documents"] == sum(entry.documents for entry in shards) == 270
    assert statistics["tokens"] == sum(entry.tokens for entry in shards)
    assert (
        statistics["text_bytes"] == sum(entry.text_bytes for entry in shards) == code["text_bytes"] + web["text_bytes"]
    )
    held_out = sum(entry.documents for entries in corpus.manifest.validation.values() for entry in entries)
    assert statistics["validation_documents"] == held_out
    timing = json.loads((corpus.folder / "prep.json").read_text())
    assert set(timing["seconds"]) == {"read", "dedup", "tokenizer", "encoder", "measure", "shards", "pairs"}


def test_same_bytes_twice_and_with_any_number_of_workers(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.plan.TASK_BYTES", 1000)  # enough tasks for two workers to race
    first = contents(run(config_for(inputs, tmp_path / "one")))
    assert sum(name.endswith(".tar") for name in first) > 8
    assert not [name for name in first if "task.json" in name or "lock" in name]
    assert contents(run(config_for(inputs, tmp_path / "again"))) == first
    assert contents(run(config_for(inputs, tmp_path / "two", workers=2))) == first


def test_how_files_are_grouped_changes_nothing(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = contents(run(config_for(inputs, tmp_path / "one")))
    monkeypatch.setattr("data_prep.plan.TASK_BYTES", 500)
    assert contents(run(config_for(inputs, tmp_path / "two"))) == first


def test_no_path_of_this_machine_is_in_the_corpus(inputs: Path, tmp_path: Path) -> None:
    for name, content in contents(run(config_for(inputs, tmp_path / "out"))).items():
        assert str(tmp_path).encode() not in content, name


def test_another_seed_is_another_order_and_split_of_the_same_documents(inputs: Path, tmp_path: Path) -> None:
    one = run(config_for(inputs, tmp_path / "one"))
    two = run(config_for(inputs, tmp_path / "two", seed=1))
    for source in ("code", "web"):
        orders = [[text for split in SPLITS for text in texts(corpus, split, source).values()] for corpus in (one, two)]
        assert sorted(orders[0]) == sorted(orders[1])
        assert orders[0] != orders[1]
    assert list(texts(one, "train", "web").items()) != sorted(texts(one, "train", "web").items())


def test_shards_follow_one_global_order_by_hash(inputs: Path, tmp_path: Path) -> None:
    corpus = run(config_for(inputs, tmp_path / "out", seed=4))
    assert len(corpus.manifest.train["web"]) > 2
    for split in SPLITS:
        for source in ("code", "web"):
            hashes = [content_hash(text, 4) for text in texts(corpus, split, source).values()]
            assert hashes == sorted(hashes)


def test_plain_webdataset_reads_every_shard(inputs: Path, tmp_path: Path) -> None:
    corpus = run(config_for(inputs, tmp_path / "out"))
    for path, entry in ((file.path, file.entry) for file in shard_files(corpus)):
        assert shard_fault(path, entry) is None
        samples = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False).decode())
        assert len(samples) == entry.chunks
        assert sum(len(sample["tokens.npy"]) for sample in samples) == entry.tokens
        for sample in samples:
            assert sample["tokens.npy"].dtype == np.uint16
            assert len(sample["tokens.npy"]) <= 256
            assert len(sample["meta.json"]["ids"]) == len(sample["docends.npy"]) + sample["meta.json"]["continues"]


def test_a_document_longer_than_a_chunk_and_than_a_shard(inputs: Path, tmp_path: Path) -> None:
    giant = "".join(prose(number) for number in range(400))
    (inputs / "code" / "giant.py").write_text(giant)
    corpus = run(config_for(inputs, tmp_path / "out"))
    found = {**texts(corpus, "train", "code"), **texts(corpus, "validation", "code")}
    assert found["giant.py", 0] == giant


def test_pairs_follow_the_corpus_split(inputs: Path, tmp_path: Path) -> None:
    corpus = run(config_for(inputs, tmp_path / "out"))
    for split in SPLITS:
        lines = (corpus.folder / "pairs" / f"{split}.jsonl").read_text().splitlines()
        origins = {json.loads(line)["origin"] for line in lines}
        assert origins <= {origin for origin, _ in texts(corpus, split, "code")}
    assert len((corpus.folder / "pairs" / "train.jsonl").read_text().splitlines()) > 80


def test_the_tokenizer_never_sees_the_validation_split(inputs: Path, tmp_path: Path) -> None:
    sources = config_for(inputs, tmp_path).model_dump()["sources"][:1]
    before = run(config_for(inputs, tmp_path / "one", sources=sources))
    held_out = texts(before, "validation", "code")
    assert len(held_out) > 2
    for path in (inputs / "code").rglob("*.py"):
        if path.read_text(errors="replace") in held_out.values():
            path.unlink()
    after = run(config_for(inputs, tmp_path / "two", sources=sources, validation_share=0))
    assert not set(texts(after, "train", "code").values()) & set(held_out.values())
    assert after.manifest.tokenizer == before.manifest.tokenizer


def test_one_is_held_out_where_the_share_would_give_none(inputs: Path, tmp_path: Path) -> None:
    corpus = run(config_for(inputs, tmp_path / "out", validation_share=1e-9))
    for source in ("code", "web"):
        assert len(texts(corpus, "validation", source)) == 1
        assert not texts(corpus, "validation", source).keys() & texts(corpus, "train", source).keys()


def test_a_text_of_two_sources_is_not_in_two_splits(tmp_path: Path) -> None:
    """Where duplicates stay: what one source has to hold out, so that it holds out anything, the other does too."""
    for source, numbers in (("few", range(3)), ("many", range(100))):
        (tmp_path / source).mkdir()
        for number in numbers:
            (tmp_path / source / f"{number}.txt").write_text(prose(number))
    sources = [{"name": name, "reader": {"type": "text", "paths": [str(tmp_path / name)]}} for name in ("few", "many")]
    corpus = run(config_for(tmp_path, tmp_path / "out", sources=sources, dedup={"exact": False}))
    found = {split: [set(texts(corpus, split, name).values()) for name in ("few", "many")] for split in SPLITS}
    assert len(found["validation"][0]) == 1
    assert not set.union(*found["train"]) & set.union(*found["validation"])


def test_a_source_with_a_split_goes_there_as_a_whole(inputs: Path, tmp_path: Path) -> None:
    """Also where the others hold out a share; and a held-out source of one document keeps it."""
    (tmp_path / "last.txt").write_text(prose(1000))
    code, web = config_for(inputs, tmp_path).model_dump()["sources"]
    last = {"name": "last", "split": "validation", "reader": {"type": "text", "paths": [str(tmp_path / "last.txt")]}}
    sources = [code, web | {"split": "test"}, last]
    corpus = run(config_for(inputs, tmp_path / "out", sources=sources))
    splits: tuple[Split, ...] = (*SPLITS, "test")
    found = {split: {one: len(texts(corpus, split, one)) for one in ("code", "web", "last")} for split in splits}
    assert found["train"] == {"code": found["train"]["code"], "web": 0, "last": 0}
    assert found["validation"]["last"] == 1
    assert found["validation"]["web"] == found["test"]["code"] == found["test"]["last"] == 0
    assert 0 < found["validation"]["code"] < found["train"]["code"]
    assert found["test"]["web"] > 100
    trained_on = run(config_for(inputs, tmp_path / "all", sources=[code | {"split": "train"}, last]))
    assert len(texts(trained_on, "train", "code")) == found["train"]["code"] + found["validation"]["code"]
    with pytest.raises(ConfigError, match=r"sources are all held out by their split; leave one to train on"):
        config_for(inputs, tmp_path / "none", sources=[last])


def test_no_share_no_validation(inputs: Path, tmp_path: Path) -> None:
    corpus = run(config_for(inputs, tmp_path / "out", validation_share=0))
    assert corpus.manifest.validation == corpus.manifest.test == {}
    assert (corpus.folder / "pairs" / "validation.jsonl").read_text() == ""


def test_a_given_tokenizer_is_taken_as_it_is(inputs: Path, tmp_path: Path) -> None:
    first = run(config_for(inputs, tmp_path / "one"))
    given = {"type": "given", "path": str(first.tokenizer_folder)}
    second = run(config_for(inputs, tmp_path / "two", tokenizer=given))
    assert second.manifest.tokenizer == first.manifest.tokenizer
    assert second.manifest.train == first.manifest.train


@pytest.mark.parametrize(
    ("values", "kind", "sentence"),
    [
        ({"tokenizer": {"type": "train", "vocab_size": 60_000}}, TokenizerError, r"vocab_size \(60000\) is too large"),
        ({"tokenizer": {"type": "given", "path": "/no/where"}}, TokenizerError, r"/no/where"),
        (
            {"cleaning": {"min_characters": 10**6}},
            CorpusError,
            r"source 'code' yields no document \(124 read; cleaning:too_short",
        ),
    ],
)
def test_errors_are_sentences(
    inputs: Path, tmp_path: Path, values: dict[str, Any], kind: type[TarmacError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence) as error:
        run(config_for(inputs, tmp_path / "out", **values))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_wrong_text_field_is_told_as_what_it_is(inputs: Path, tmp_path: Path) -> None:
    reader = {"type": "jsonl", "paths": [str(inputs / "web")], "text_field": "text"}
    with pytest.raises(CorpusError, match=r"'web': none of 153 records .*text is not there; there are body; correct"):
        run(config_for(inputs, tmp_path / "out", sources=[{"name": "web", "reader": reader}]))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [f"output={tmp_path / 'out'}", "sources.0.reader.suffixes=[enum.py]", "tokenizer.vocab_size=700"]
    arguments = ["prep", str(RECIPES / "stdlib.yaml"), *overrides, "workers=1", "validation_share=0.5"]
    assert main([*arguments, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "vocab_size: 700" in said.out
    assert "\nplan\nsource  files" in said.out
    assert not said.err
    assert not (tmp_path / "out").exists()
    assert main(arguments) == 0
    table = capsys.readouterr().err
    for word in ("stdlib", "bytes per token", "stdlib: nothing was dropped", "MB/s", "pairs: "):
        assert word in table
    assert main(arguments) == 0
    assert "already prepared" in capsys.readouterr().err
    assert main([*arguments, "seed=9"]) == 2
    assert capsys.readouterr().err.startswith("tarmac: output ")


def test_the_command_in_a_process_of_its_own_with_two_workers(inputs: Path, tmp_path: Path) -> None:
    words = [f"output={tmp_path / 'out'}", f"sources.0.reader.paths=[{inputs / 'code' / '*.py'}]", "workers=2"]
    words += [
        "tokenizer.vocab_size=320",
        "shards.chunk_tokens=64",
        "shards.shard_tokens=128",
        "cleaning.min_characters=9",
    ]
    command = [sys.executable, "-m", "pipeline.cli", "prep", str(RECIPES / "text.yaml"), *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert len(Corpus(tmp_path / "out").manifest.train["text"]) > 2


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_parses(recipe: Path) -> None:
    assert load(PrepConfig, recipe).sources


@pytest.mark.realdata
def test_real_novels_and_questions(tmp_path: Path) -> None:
    data = Path(os.environ["TARMAC_REALDATA"])
    sources = [
        {"name": "novels", "reader": {"type": "text", "paths": [str(data / "british_fiction")]}},
        {
            "name": "questions",
            "reader": {"type": "jsonl", "paths": [str(data / "gsm8k" / "train.jsonl")], "text_field": "question"},
        },
    ]
    config = config_for(
        tmp_path,
        tmp_path / "out",
        sources=sources,
        validation_share=0.02,
        tokenizer={"type": "train", "vocab_size": 4096, "sample_bytes": 2_000_000},
        shards={"chunk_tokens": 65_536, "shard_tokens": 1_048_576},
        pairs={"enabled": False},
        workers=2,
    )
    corpus = run(config)
    lines = (data / "gsm8k" / "train.jsonl").read_text().splitlines()
    questions = {json.loads(line)["question"].replace("\r\n", "\n") for line in lines}
    found = [text for split in SPLITS for text in texts(corpus, split, "questions").values()]
    assert len(found) == len(set(found))
    assert len(found) == corpus.manifest.statistics["sources"]["questions"]["kept"] > 0.99 * len(questions)
    assert corpus.manifest.statistics["sources"]["novels"]["kept"] > 1
    assert corpus.manifest.statistics["bytes_per_token"] > 3
    assert corpus.manifest.tokens("validation") > 0
