import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_prep.corpus.existing import config_sha256, find_existing, inputs_sha256, source_sha256
from data_prep.plan import SourcePlan
from data_prep.readers.files import InputFile
from pipeline.config.load import validate
from pipeline.config.prep.recipe import PrepConfig
from pipeline.corpus.manifest import PREP_NAME, Manifest, TokenizerEntry, write_manifest
from pipeline.errors import ConfigError, CorpusError

NAMES = ("web", "code")  # not in the order of the alphabet


def source(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "reader": {"type": "text", "paths": [f"/data/{name}"]}, **values}


def config_for(*sources: dict[str, Any], **values: Any) -> PrepConfig:
    tokenizer = {"type": "train", "vocab_size": 300}
    base = {"stage": "prep", "output": "out", "sources": list(sources), "tokenizer": tokenizer}
    return validate(PrepConfig, {**base, **values}, "test")


def plans_of(config: PrepConfig, num_files: int = 2, **changes: Any) -> list[SourcePlan]:
    files = [InputFile(f"/data/{number}.txt", f"{number}.txt", 100 + number, "mtime") for number in range(num_files)]
    return [SourcePlan(one, (replace(files[0], **changes), *files[1:])) for one in config.sources]


DEFAULT = config_for(*map(source, NAMES))


def finish(output: Path, config: PrepConfig = DEFAULT) -> Path:
    """What a run leaves of all that is looked at here."""
    plans = plans_of(config)
    output.mkdir(parents=True)
    manifest = Manifest(
        format_version=2,
        dtype="uint16",
        tokenizer=TokenizerEntry(fingerprint="0", vocab_size=300, eos_id=2),
        config_sha256=config_sha256(config),
        versions={},
        train={},
        validation={},
        statistics={
            "generations": [[plan.source.name for plan in plans]],
            "sources": {plan.source.name: {"config_sha256": source_sha256(plan)} for plan in plans},
        },
    )
    write_manifest(output, manifest)
    inputs = {plan.source.name: inputs_sha256(config, plan) for plan in plans}
    (output / PREP_NAME).write_text(json.dumps({"inputs": inputs}))
    return output


def refused(output: Path, config: PrepConfig, plans: Sequence[SourcePlan]) -> str:
    """The sentence; with `replace` a corpus is to be made."""
    with pytest.raises(ConfigError) as caught:
        find_existing(output, config, plans, replace=False)
    assert find_existing(output, config, plans, replace=True) is None
    return str(caught.value)


def test_nothing_is_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "absent", tmp_path / "deep" / "absent", tmp_path / "empty"):
        for replace_it in (False, True):
            assert find_existing(output, DEFAULT, plans_of(DEFAULT), replace_it) is None


@pytest.mark.parametrize("replace_it", [False, True])
def test_something_else_is_there_and_stays(tmp_path: Path, replace_it: bool) -> None:
    letter = tmp_path / "letters" / "love.txt"
    letter.parent.mkdir()
    letter.write_text("dear")
    for output in (letter.parent, letter):
        with pytest.raises(ConfigError, match=r"exists and is not a corpus; choose another folder"):
            find_existing(output, DEFAULT, plans_of(DEFAULT), replace_it)


@pytest.mark.parametrize("replace_it", [False, True])
def test_this_very_corpus_is_there(tmp_path: Path, replace_it: bool) -> None:
    found = find_existing(finish(tmp_path / "corpus"), DEFAULT, plans_of(DEFAULT), replace_it)
    assert found is not None
    assert found.complete
    assert found.manifest.config_sha256 == config_sha256(DEFAULT)


@pytest.mark.parametrize(
    "values",
    [
        {"output": "elsewhere"},
        {"work": "w"},
        {"keep_work": "nothing"},
        {"executor": {"type": "ray"}},
        {"workers": 3},
        {"sources": [source("web", max_rejected_share=0.5), source("code")]},
    ],
    ids=str,
)
def test_what_changes_nothing_of_the_content_may_differ(tmp_path: Path, values: dict[str, Any]) -> None:
    config = config_for(*map(source, NAMES), **values)
    found = find_existing(finish(tmp_path / "corpus"), config, plans_of(config), replace=False)
    assert found is not None
    assert found.complete


@pytest.mark.parametrize(
    "values",
    [
        {"seed": 1},
        {"cleaning": {"min_characters": 1}},
        {"filters": [{"type": "c4_quality"}]},
        {"dedup": {"exact": False}},
        {"validation_share": 0.5},
        {"test_share": 0.5},
        {"tokenizer": {"type": "train", "vocab_size": 301}},
        {"shards": {"chunk_tokens": 8, "shard_tokens": 80}},
        {"pairs": {"enabled": True}},
    ],
    ids=str,
)
def test_another_config_is_told(tmp_path: Path, values: dict[str, Any]) -> None:
    config = config_for(*map(source, NAMES), **values)
    sentence = refused(finish(tmp_path / "corpus"), config, plans_of(config))
    assert f"output ({tmp_path / 'corpus'}) holds a corpus made by another config; give --replace" in sentence


@pytest.mark.parametrize("values", [{"filters": []}, {"reader": {"type": "jsonl", "paths": ["/data/code"]}}], ids=str)
def test_another_config_of_a_source_is_told(tmp_path: Path, values: dict[str, Any]) -> None:
    config = config_for(source("web"), source("code", **values))
    sentence = refused(finish(tmp_path / "corpus"), config, plans_of(config))
    assert "holds a corpus made by another config of source code; give --replace" in sentence


@pytest.mark.parametrize(
    "changes", [{"bytes": 5}, {"version": "later"}, {"origin": "other.txt"}, {"num_files": 3}], ids=str
)
def test_other_inputs_are_told(tmp_path: Path, changes: dict[str, Any]) -> None:
    sentence = refused(finish(tmp_path / "corpus"), DEFAULT, plans_of(DEFAULT, **changes))
    assert "holds a corpus made from other input files of source web; give --replace" in sentence


def test_a_further_source_is_to_be_appended(tmp_path: Path) -> None:
    config = config_for(*map(source, (*NAMES, "books")))
    found = find_existing(finish(tmp_path / "corpus"), config, plans_of(config), replace=False)
    assert found is not None
    assert not found.complete
    assert found.manifest.statistics["generations"] == [list(NAMES)]


@pytest.mark.parametrize("names", [("code", "web"), ("web",), ("code",), ("web", "books", "code"), ("books", *NAMES)])
def test_other_sources_or_another_order_are_told(tmp_path: Path, names: Sequence[str]) -> None:
    """Of equal documents the one of the first source stays, so the order decides what is in a source."""
    config = config_for(*map(source, names))
    sentence = refused(finish(tmp_path / "corpus"), config, plans_of(config))
    assert "holds a corpus made of the sources web, code" in sentence


@pytest.mark.parametrize("content", ["", "{", "{}", '{"inputs": {}}'])
def test_when_nobody_knows_the_inputs_it_is_not_taken_for_complete(tmp_path: Path, content: str) -> None:
    output = finish(tmp_path / "corpus")
    (output / PREP_NAME).write_text(content)
    assert "from other input files" in refused(output, DEFAULT, plans_of(DEFAULT))


def test_a_damaged_corpus_may_be_replaced(tmp_path: Path) -> None:
    output = finish(tmp_path / "corpus")
    (output / "manifest.json").write_text("{")
    with pytest.raises(CorpusError, match=r"manifest\.json cannot be read"):
        find_existing(output, DEFAULT, plans_of(DEFAULT), replace=False)
    assert find_existing(output, DEFAULT, plans_of(DEFAULT), replace=True) is None
