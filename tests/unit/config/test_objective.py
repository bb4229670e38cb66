"""Which objectives go with which models."""

from typing import Any

import pytest

from pipeline.config.load import validate
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError
from tests.unit.config.test_load import RUN

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_layers": 2, "num_heads": 4}


def run(**changes: Any) -> RunConfig:
    return validate(RunConfig, RUN | changes, "test")


@pytest.mark.parametrize("form", ["bert", "modernbert"])
def test_encoders_learn_masked_tokens(form: str) -> None:
    model, sdpa = {"type": form, **SIZES}, {"attention": "sdpa"}
    assert run(model=model, objective={"type": "masked"}, engine=sdpa).objective.model_dump() == {
        "type": "masked", "share": 0.15, "whole_words": False,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=rf"objective.type \(causal\) must be masked when model.type is {form}"):
        run(model=model, engine=sdpa)
    with pytest.raises(ConfigError, match=r"data.sequence_length \(32\) must be at most model.max_positions \(16\)"):
        run(model=model | {"max_positions": 16}, objective={"type": "masked"}, engine=sdpa)
    with pytest.raises(ConfigError, match=r"model: hidden_size \(64\) must be a multiple of num_heads \(5\)"):
        run(model=model | {"num_heads": 5}, objective={"type": "masked"}, engine=sdpa)


def test_local_attention_needs_a_mask() -> None:
    with pytest.raises(ConfigError, match=r"engine.attention \(documents\) must be sdpa or eager when model.type"):
        run(model={"type": "modernbert", **SIZES}, objective={"type": "masked"})


def test_decoders_learn_the_next_token() -> None:
    assert run().objective.type == "causal"
    with pytest.raises(ConfigError, match=r"model.type \(llama\) must be bert, modernbert or checkpoint with"):
        run(objective={"type": "masked"})


def test_masked_tokens_are_learned_whole_and_from_corpora() -> None:
    base = {"type": "checkpoint", "run": "runs/base"}
    assert run(model=base, objective={"type": "masked"}).objective.type == "masked"
    with pytest.raises(ConfigError, match=r"adapter.type \(lora\) must be none when objective.type is masked"):
        run(model=base, objective={"type": "masked"}, adapter={"type": "lora"})
    instruct = {"type": "instruct", "train": "a", "validation": "b", "sequence_length": 32}
    with pytest.raises(ConfigError, match=r"stage \(finetune\) must be pretrain when objective.type is masked"):
        run(stage="finetune", model=base, data=instruct, objective={"type": "masked"})
