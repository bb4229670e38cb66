"""The noise of a run by its config and tokenizer, and what models of different kinds are refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.load import dump, read_mapping, validate
from pipeline.config.objective import CausalObjective, MaskedObjective
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError, TokenizerError
from pipeline.runtime.files import write_text
from pipeline.stages.masking import common_objective, fixed_noise, noise_of
from tests.unit.small import CONTROL_TOKENS, small_model, small_run, small_tokenizer

MASKED = MaskedObjective(type="masked", whole_words=True)


def test_control_tokens_are_neither_hidden_nor_read_instead(tmp_path: Path) -> None:
    tokenizer = small_tokenizer(tmp_path / "tokenizer", control_tokens=[*CONTROL_TOKENS, "<mask>"])
    noise = noise_of(MASKED, tokenizer, 3)
    assert noise is not None
    assert noise.mask_id == tokenizer.control_id("<mask>")
    assert np.flatnonzero(~noise.is_ordinary).tolist() == list(range(9))  # four named, four of chats, the mask
    assert noise.words is not None
    held_out = fixed_noise(MASKED, tokenizer)
    assert held_out is not None
    assert held_out.seed not in (3, noise.seed)
    assert noise_of(CausalObjective(type="causal"), tokenizer, 3) is None


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"objective.type is masked, and .*; prepare the corpus with .* <mask>"):
        noise_of(MASKED, small_tokenizer(tmp_path / "tokenizer"), 3)


def test_losses_of_different_objectives_are_not_compared(tmp_path: Path) -> None:
    tokenizer = small_tokenizer(tmp_path / "tokenizer")
    data = {"type": "corpus", "sources": [{"corpus": "gone", "source": "small"}], "sequence_length": 32}
    runs = {}
    for name in ("one", "two", "three"):
        runs[name] = str(small_run(tmp_path / name, tokenizer, small_model(tokenizer.vocab_size), data))
    assert common_objective(runs).type == "causal"
    shutil.rmtree(tmp_path / "two" / "checkpoints")  # with it goes the seal of its config
    values = read_mapping(tmp_path / "two" / "config.yaml")
    model = {"type": "bert", "hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4}
    values |= {"model": model, "objective": {"type": "masked"}}
    write_text(tmp_path / "two" / "config.yaml", dump(validate(RunConfig, values, "test")))
    with pytest.raises(ConfigError, match=r"models one and two predict other tokens \(the next one and 0.15 of them\)"):
        common_objective(runs)
