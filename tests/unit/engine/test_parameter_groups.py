"""Which weights decay."""

from typing import Any

import pytest
import torch

from pipeline.config.optimization import AdamW
from pipeline.engine.parameter_groups import parameter_groups
from pipeline.models.build import empty_model
from pipeline.models.forms import decoder_config
from tests.distributed.training_body import VOCABULARY, run_config


def names_by_decay(tie: bool, **changes: Any) -> dict[float, set[str]]:
    form = decoder_config(run_config().model.model_copy(update={"tie_embeddings": tie}), VOCABULARY, eos_id=0, pad_id=0)
    with torch.device("meta"):
        model = empty_model(form, "fp32", "eager")
    model.model.norm.weight.requires_grad = False
    names = {parameter: name for name, parameter in model.named_parameters()}
    found: dict[float, set[str]] = {}
    for group in parameter_groups(model, AdamW(type="adamw", lr=1e-3, weight_decay=0.1, **changes)):
        found.setdefault(group["weight_decay"], set()).update(names[one] for one in group["params"])
    assert sum(map(len, found.values())) == len(names) - 1  # each once, but what is not trained
    return found


@pytest.mark.parametrize("tie", [False, True])
def test_norms_never_decay_and_embeddings_where_wanted(tie):
    decays, spared = names_by_decay(tie), names_by_decay(tie, decay_embeddings=False)
    assert all("norm" in name for name in decays[0.0])
    assert not any("norm" in name for name in decays[0.1])
    assert spared[0.0] - decays[0.0] == {"model.embed_tokens.weight"}
    assert ("lm_head.weight" in spared[0.1]) == (not tie)  # tied, it is the embedding
