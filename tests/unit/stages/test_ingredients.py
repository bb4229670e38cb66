"""What a training run opens, and what it says if that is damaged."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import validate
from pipeline.config.run import RunConfig
from pipeline.errors import TokenizerError
from pipeline.stages.ingredients import open_data
from tests.unit.small import LLAMA, small_corpus, small_texts, small_tokenizer


def run_config(folder: Path, corpus: Path, **changes: Any) -> RunConfig:
    return validate(RunConfig, {
        "stage": "pretrain", "output": str(folder / "run"), "model": LLAMA,
        "data": {"type": "corpus", "sources": [{"corpus": str(corpus), "source": "small"}], "sequence_length": 32},
        "batch": {"global_size": 2, "micro_size": 1}, "duration": {"steps": 3},
        "optimizer": {"type": "adamw", "lr": 1e-3}, **changes,
    }, "test")  # fmt: skip


def test_a_corpus_to_be_evaluated_needs_the_tokenizer_of_the_run(tmp_path: Path) -> None:
    one = small_corpus(tmp_path / "corpus", small_tokenizer(tmp_path / "one"), small_texts(5), small_texts(3))
    same = small_corpus(tmp_path / "same", small_tokenizer(tmp_path / "again"), small_texts(5), small_texts(3))
    other = small_corpus(tmp_path / "other", small_tokenizer(tmp_path / "two", 410), small_texts(5), small_texts(3))
    config = run_config(tmp_path, one.folder, evaluation={"corpora": {"same": {"corpus": str(same.folder)}}})
    assert list(open_data(config).others["same"].shards) == ["0/small"]
    config = run_config(tmp_path, one.folder, evaluation={"corpora": {"books": {"corpus": str(other.folder)}}})
    with pytest.raises(TokenizerError, match=rf"^evaluation.corpora.books: corpus {other.folder} was prepared with an"):
        open_data(config)


def test_a_damaged_tokenizer_of_a_corpus_is_told_with_its_place_and_cure(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path / "corpus", small_tokenizer(tmp_path / "one"), small_texts(5), small_texts(3))
    config = run_config(tmp_path, corpus.folder)
    assert len(open_data(config).source.shards["small"].num_positions) == 1
    model = corpus.tokenizer_folder / "tokenizer.model"
    for content in (model.read_bytes().replace(b"value", b"valve"), b"broken"):
        model.write_bytes(content)
        with pytest.raises(TokenizerError, match=rf"^tokenizer {model.parent}: .*`tarmac verify {corpus.folder} --rep"):
            open_data(config)
