"""A source that is appended is kept apart from what the corpus holds out, and repair makes the same of it again."""

import io
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from rich.console import Console

from data_prep.stage import prep
from pipeline.cli import main
from pipeline.config.load import dump, validate
from pipeline.config.prep.recipe import PrepConfig
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.manifest import Split
from pipeline.corpus.verification import shard_fault, shard_files
from pipeline.errors import CorpusError
from tests.integration.test_prep import contents, run, texts
from tests.integration.test_prep_never_twice import kill_after, tasks_run
from tests.integration.test_prep_repair import flip_a_bit, lose_it, spoil_the_tokenizer

REASON = "held_out:contaminated"
LICENCE = "You may copy this text as you like as long as this sentence goes with each and every copy of it."


def prose(name: str, num_words: int) -> str:
    """Words in an order that no other name has."""
    chosen = random.Random(name)
    return " ".join("".join(chosen.choices("abdegilmnoprstu", k=4)) for _ in range(num_words)) + "."


def write(inputs: Path, source: str, documents: dict[str, str]) -> None:
    (inputs / source).mkdir(parents=True, exist_ok=True)
    for name, text in documents.items():
        (inputs / source / f"{name}.txt").write_text(text)


def config_for(inputs: Path, output: Path, *sources: str, **values: Any) -> PrepConfig:
    base: dict[str, Any] = {
        "stage": "prep",
        "output": str(output),
        "sources": [{"name": name, "reader": {"type": "text", "paths": [str(inputs / name)]}} for name in sources],
        "validation_share": 0.2,
        "test_share": 0.1,
        "write_dropped": True,
        "dedup": {"minhash": {}},
        "tokenizer": {"type": "train", "vocab_size": 320},
        "shards": {"chunk_tokens": 2048, "shard_tokens": 4096},
        "workers": 1,
    }
    return validate(PrepConfig, {**base, **values}, "test")


def split_of(corpus: Corpus, split: Split, source: str) -> dict[str, str]:
    """Texts of a split by the name of their file."""
    return {origin.removesuffix(".txt"): text for (origin, _), text in texts(corpus, split, source).items()}


def dropped(corpus: Corpus, source: str) -> set[str]:
    """Names of the files that were dropped for what they have in common with held-out documents."""
    count = corpus.manifest.statistics["sources"][source]["dropped"].get(REASON, 0)
    files = (corpus.folder / "dropped").glob(f"{source}-*.jsonl.zst")
    content = b"".join(zstandard.ZstdDecompressor().stream_reader(path.open("rb")).read() for path in files)
    lines = [json.loads(line) for line in content.splitlines()]
    names = {line["file"].removesuffix(".txt") for line in lines if line["reason"] == REASON}
    assert len(names) == count
    return names


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Sixty documents, each with the same last sentence."""
    texts = {f"f{n}": f"{prose(f'f{n}', 80)}\n{LICENCE}" for n in range(60)}
    write(tmp_path / "in", "first", texts | {f"near{n}": f"{texts[f'f{n}']} Again." for n in range(5)})
    return tmp_path / "in"


def write_second(inputs: Path, first: Corpus) -> str:
    """Documents that quote held-out ones or training ones, in several ways; returns the name of a quoted one."""
    held_out = {**split_of(first, "validation", "first")}
    (name, text), (_, other), *_ = held_out.items()
    training = next(iter(split_of(first, "train", "first").values()))
    half = " ".join(text.split()[20:60])
    write(
        inputs,
        "second",
        {
            "quotes": f"{prose('before', 200)} {text} {prose('behind', 2000)}",
            "in-capitals": f"{prose('before', 100)}\n{text.upper()}",
            "part": half,
            "half-and-half": f"{half} {prose('half', 90)}",
            "another": f"{prose('short', 20)} {other}",
            "training": f"{prose('before', 200)} {training}",
            "near-training": f"{training} And so on.",
            "few-words": f"{' '.join(text.split()[:15])} {prose('many', 300)}",
            "licensed": f"{prose('licensed', 20)} {LICENCE}",
            **{f"s{n}": prose(f"s{n}", 80) for n in range(40)},
        },
    )
    return name


CONTAMINATED = {"quotes", "in-capitals", "part", "half-and-half", "another"}


def appended(inputs: Path, output: Path, **values: Any) -> Corpus:
    """A corpus of the first source to which the second was appended."""
    write_second(inputs, run(config_for(inputs, output, "first", **values)))
    return run(config_for(inputs, output, "first", "second", **values))


def test_a_quotation_of_what_is_held_out_is_dropped(inputs: Path, tmp_path: Path) -> None:
    corpus = appended(inputs, tmp_path / "out")
    assert dropped(corpus, "second") == CONTAMINATED
    left = {name for split in ("train", "validation", "test") for name in split_of(corpus, split, "second")}
    assert left >= {"training", "few-words", "licensed"}
    assert not left & CONTAMINATED
    assert corpus.manifest.statistics["generations"] == [["first"], ["second"]]
    assert REASON in {line["reason"] for line in _samples(corpus)}


def _samples(corpus: Corpus) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((corpus.folder / "stats.json").read_text())["sources"]["second"][
        "dropped_samples"
    ]
    return found


def test_the_same_documents_stay_where_the_text_is_in_training(inputs: Path, tmp_path: Path) -> None:
    name = write_second(inputs, run(config_for(inputs, tmp_path / "out", "first")))
    others = ((seed, run(config_for(inputs, tmp_path / str(seed), "first", seed=seed))) for seed in range(1, 9))
    seed, other = next((seed, one) for seed, one in others if name in split_of(one, "train", "first"))
    corpus = run(config_for(inputs, other.folder, "first", "second", seed=seed))
    assert not dropped(corpus, "second") & {"quotes", "in-capitals", "part", "half-and-half"}


def test_switched_off_it_drops_nothing(inputs: Path, tmp_path: Path) -> None:
    assert not dropped(appended(inputs, tmp_path / "out", held_out=None), "second")
    assert dropped(appended(inputs, tmp_path / "strict", held_out={"max_share": 0.0}), "second") == {
        *CONTAMINATED,
        "few-words",
    }


def test_sources_that_come_together_are_not_kept_apart(inputs: Path, tmp_path: Path) -> None:
    write_second(inputs, run(config_for(inputs, tmp_path / "first", "first")))
    corpus = run(config_for(inputs, tmp_path / "out", "first", "second"))
    assert not dropped(corpus, "second")
    assert corpus.manifest.statistics["generations"] == [["first", "second"]]


def test_which_share_of_what_is_held_out_is_compared_is_told(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(config_for(inputs, tmp_path / "out", "first"))
    held_out = {**split_of(first, "validation", "first"), **split_of(first, "test", "first")}
    write(inputs, "second", {name: f"{prose(name, 500)} {text}" for name, text in held_out.items()})
    monkeypatch.setattr("data_prep.filters.overlap.MAX_NGRAMS", 300)
    said = io.StringIO()
    prep(config_for(inputs, tmp_path / "out", "first", "second"), Console(file=said, width=300))
    share = f"{4 / len(held_out):.2%}"
    assert f"compared with 4 of the {len(held_out)} documents that first hold out ({share})" in said.getvalue()
    assert len(dropped(Corpus(tmp_path / "out"), "second")) == 4


def test_a_third_source_is_kept_apart_from_both(inputs: Path, tmp_path: Path) -> None:
    second = appended(inputs, tmp_path / "out")
    files = {path: path.stat().st_ino for path in second.folder.rglob("*.tar")}
    quoted = [
        next(iter(split_of(second, "validation", "first").values())),
        next(iter(split_of(second, "validation", "second").values())),
        next(iter(split_of(second, "test", "second").values())),
    ]
    plain = {f"t{n}": prose(f"t{n}", 80) for n in range(20)}
    write(inputs, "third", {**plain, **{f"q{n}": f"{prose('q', 300)} {text}" for n, text in enumerate(quoted)}})
    corpus = run(config_for(inputs, tmp_path / "out", "first", "second", "third"))
    assert dropped(corpus, "third") == {"q0", "q1", "q2"}
    assert corpus.manifest.statistics["generations"] == [["first"], ["second"], ["third"]]
    assert files == {path: path.stat().st_ino for path in files}
    assert tasks_run(corpus)["read"] == 1  # the second source's task is found by the key that it had
    said = io.StringIO()
    prep(config_for(inputs, tmp_path / "out", "first", "second", "third"), Console(file=said), rehash=True)
    assert "no input has changed" in said.getvalue()


@pytest.mark.parametrize("values", [{"workers": 2}, {"keep_work": "nothing"}], ids=str)
def test_the_bytes_are_the_same_however_it_is_done(inputs: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    whole = contents(appended(inputs, tmp_path / "out"))
    assert contents(appended(inputs, tmp_path / "other", **values)) == whole


def test_a_killed_append_goes_on(inputs: Path, tmp_path: Path) -> None:
    whole = contents(appended(inputs, tmp_path / "whole"))
    run(config_for(inputs, tmp_path / "out", "first"))
    config = config_for(inputs, tmp_path / "out", "first", "second", workers=2)
    (tmp_path / "prep.yaml").write_text(dump(config))
    moments = random.Random(1)
    for number in range(6):
        words = [sys.executable, "-m", "pipeline.cli", "prep", str(tmp_path / "prep.yaml")]
        kill_after(words, moments.uniform(1, 4), alone=number % 2 == 0)
    assert contents(run(config)) == whole


def test_a_killed_append_that_is_given_up_leaves_nothing(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(config_for(inputs, tmp_path / "out", "first"))
    whole = contents(first)
    write_second(inputs, first)
    with monkeypatch.context() as patch:
        patch.setattr("data_prep.corpus.output.write_manifest", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(config_for(inputs, tmp_path / "out", "first", "second"))
    assert (tmp_path / "out" / "shards" / "second").exists()
    assert main(["verify", str(first.folder)]) == 1
    run(config_for(inputs, tmp_path / "out", "first"))
    assert contents(first) == whole
    assert not (tmp_path / "out" / "shards" / "second").exists()
    assert main(["verify", str(first.folder)]) == 0


def test_nothing_is_appended_beside_a_damaged_held_out_shard(inputs: Path, tmp_path: Path) -> None:
    first = run(config_for(inputs, tmp_path / "out", "first"))
    write_second(inputs, first)
    flip_a_bit(next(file.path for file in shard_files(first) if file.split == "validation"))
    with pytest.raises(CorpusError, match=r"held-out shard .* has other bytes than were written; mend .*--repair"):
        run(config_for(inputs, tmp_path / "out", "first", "second"))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("is_spoilt", [True, False])
def test_repair_gives_the_bytes_of_the_manifest(inputs: Path, tmp_path: Path, keep: bool, is_spoilt: bool) -> None:
    """Bad shards of both generations, held-out ones among them, and the tokenizer that reads these."""
    corpus = appended(inputs, tmp_path / "out")
    (tmp_path / "prep.yaml").write_text(dump(config_for(inputs, tmp_path / "out", "first", "second")))
    whole, files = contents(corpus), shard_files(corpus)
    wanted = [("validation", "first"), ("train", "first"), ("train", "second")]
    bad = [next(file for file in files if (file.split, file.source) == place) for place in wanted]
    assert len(bad) < len(files) / 2
    flip_a_bit(bad[0].path)
    for file in bad[1:]:
        lose_it(file.path)
    if is_spoilt:
        spoil_the_tokenizer(files[0].path)
    if not keep:
        shutil.rmtree(tmp_path / "out.work")
    before = set((tmp_path / "out.work").glob("shards/*"))
    assert main(["verify", str(corpus.folder), "--repair", str(tmp_path / "prep.yaml")]) == 0
    assert contents(corpus) == whole
    assert not [fault for file in files if (fault := shard_fault(file.path, file.entry))]
    made = set((tmp_path / "out.work").glob("shards/*")) - (set() if keep else before)
    assert len(made) == (len(before) if keep else len(bad))


def test_repair_passes_over_a_source_that_is_still_to_be_appended(inputs: Path, tmp_path: Path) -> None:
    first = run(config_for(inputs, tmp_path / "out", "first"))
    whole = contents(first)
    write_second(inputs, first)
    lose_it(shard_files(first)[0].path)
    (tmp_path / "prep.yaml").write_text(dump(config_for(inputs, tmp_path / "out", "first", "second")))
    assert main(["verify", str(first.folder), "--repair", str(tmp_path / "prep.yaml")]) == 0
    assert contents(first) == whole
