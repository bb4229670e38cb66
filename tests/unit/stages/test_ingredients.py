"""What a training run opens, and what it says if that is damaged."""

from pathlib import Path

import pytest

from pipeline.config.load import validate
from pipeline.config.run import RunConfig
from pipeline.errors import TokenizerError
from pipeline.stages.ingredients import open_data
from tests.unit.small import LLAMA, small_corpus, small_texts, small_tokenizer


def test_a_damaged_tokenizer_of_a_corpus_is_told_with_its_place_and_cure(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path / "corpus", small_tokenizer(tmp_path / "one"), small_texts(5), small_texts(3))
    config = validate(RunConfig, {
        "stage": "pretrain", "output": str(tmp_path / "run"), "model": LLAMA,
        "data": {"type": "corpus", "sources": [{"corpus": str(corpus.folder), "source": "small"}],
                 "sequence_length": 32},
        "batch": {"global_size": 2, "micro_size": 1}, "duration": {"steps": 3},
        "optimizer": {"type": "adamw", "lr": 1e-3},
    }, "test")  # fmt: skip
    assert len(open_data(config).source.shards["small"].num_positions) == 1
    model = corpus.tokenizer_folder / "tokenizer.model"
    for content in (model.read_bytes().replace(b"value", b"valve"), b"broken"):
        model.write_bytes(content)
        with pytest.raises(TokenizerError, match=rf"^tokenizer {model.parent}: .*`tarmac verify {corpus.folder} --rep"):
            open_data(config)
