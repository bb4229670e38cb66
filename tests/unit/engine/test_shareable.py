"""Models that ranks cannot share are refused in a sentence."""

import pytest
from torch import nn

from pipeline.engine.tensor_parallel import plan_cuts
from pipeline.engine.ulysses import require_whole_rows
from pipeline.errors import ConfigError
from pipeline.models.build import empty_model
from pipeline.models.forms import decoder_config
from tests.unit.models.decoder_forms import decoder


def model(form: str) -> nn.Module:
    return nn.Sequential(empty_model(decoder_config(decoder(form), 64, 2, 3), "fp32", "sdpa"))


@pytest.mark.parametrize(("form", "style"), [("olmo2", "rowwise_split_input"), ("qwen3_moe", "moe_tp_experts")])
def test_forms_that_deepspeed_cannot_cut(form, style):
    with pytest.raises(ConfigError, match=rf"tensor_parallel \(2\): DeepSpeed cannot cut {form} \(.*{style}"):
        plan_cuts(model(form), 2)


def test_forms_that_it_can():
    plan_cuts(model("llama"), 2)
    plan_cuts(model("qwen3"), 2)


def test_windows():
    (network,) = model("qwen3")
    require_whole_rows(network)
    network.config.sliding_window, network.config.layer_types = 8, ["full_attention", "sliding_attention"]
    with pytest.raises(ConfigError, match=r"needs attention to whole rows, and the model has windows of 8 tokens"):
        require_whole_rows(network)
