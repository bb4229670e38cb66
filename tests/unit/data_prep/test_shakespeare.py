"""The shipped recipe of characters, on the text that it is for."""

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.known_answers import RECIPES, lay_out_shakespeare
from data_prep.stage import prep
from pipeline.config.load import load
from pipeline.config.prep.recipe import PrepConfig
from pipeline.corpus.corpus import Corpus
from pipeline.tokenizer.load import load_tokenizer

pytestmark = pytest.mark.realdata


def test_each_character_is_a_token_and_the_last_tenth_is_held_out(tmp_path, monkeypatch) -> None:
    data = Path(os.environ["TARMAC_REALDATA"])
    lay_out_shakespeare(data, tmp_path)
    monkeypatch.chdir(tmp_path)
    corpus = Corpus(
        prep(load(PrepConfig, RECIPES / "data_prep" / "shakespeare_char.yaml"), Console(file=io.StringIO()))
    )
    tokenizer = load_tokenizer(corpus.tokenizer_folder)
    text = (data / "tinyshakespeare" / "input.txt").read_text(encoding="ascii")
    assert tokenizer.vocab_size == len(set(text)) + 4 + 256
    read = {}
    for split, source in (("train", "shakespeare"), ("validation", "held_out")):
        [entry] = corpus.manifest.sources(split)[source]
        tokens = corpus.open_shard(split, source, 0).tokens(0, entry.tokens).tolist()
        assert tokens[-1] == tokenizer.eos_id
        read[split] = tokenizer.decode(tokens[:-1])
        assert len(read[split]) == len(tokens) - 1
    assert read["train"] + read["validation"] == text
    assert len(read["validation"]) == 111_540
