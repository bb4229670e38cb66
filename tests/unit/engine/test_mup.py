"""Maximal update parametrisation: what a step changes keeps its size, however wide the model is."""

from functools import cache, partial

import pytest
import torch
from transformers import AutoConfig

from pipeline.config.load import validate
from pipeline.config.model import LoraAdapter
from pipeline.config.optimization import AdamW
from pipeline.config.run import RunConfig
from pipeline.engine.parameter_groups import parameter_groups
from pipeline.engine.settings import peak_learning_rate
from pipeline.errors import ConfigError
from pipeline.models.adapters import add_lora
from pipeline.models.build import empty_model, fresh_model
from pipeline.models.forms import decoder_config
from pipeline.models.initialization import Spread, initial_weights
from pipeline.objectives.causal import summed_loss
from pipeline.stages.building import assemble
from tests.distributed.training_body import run_config
from tests.unit.models.decoder_forms import FORMS, decoder

IDS = torch.randint(64, (4, 33), generator=torch.Generator().manual_seed(0))
BASE = 16


def wide(form: str, width: int, init: str):
    """A form whose parts all grow with its width, but for the size of a head."""
    sizes = {"intermediate_size": 2 * width, "expert_size": width, "num_key_value_heads": width // 8, "head_size": 8}
    kept = {name: size for name, size in sizes.items() if name in FORMS[form]}
    base = {"base_width": BASE} if init == "mup" else {}
    return decoder(
        form, hidden_size=width, num_heads=width // 8, init=init, init_std=0.1, tie_embeddings=False, **kept, **base
    )


@cache
def change(form: str, width: int, init: str) -> float:
    """Standard deviation of what four steps of Adam change in the logits."""
    config = wide(form, width, init)
    network = fresh_model(decoder_config(config, 64, 2, 3), 0, "fp32", "sdpa", Spread.of(config, 64))
    rates = AdamW(type="adamw", lr=2e-2, weight_decay=0.1)
    groups = parameter_groups(network, rates)
    optimizer = torch.optim.AdamW([{**group, "lr": peak_learning_rate(group, rates)} for group in groups])

    def logits() -> torch.Tensor:
        return network(input_ids=IDS[:, :-1], use_cache=False).logits

    first = logits().detach()
    for _ in range(4):
        optimizer.zero_grad()
        (summed_loss(logits(), IDS[:, 1:])[0] / 128).backward()
        optimizer.step()
    return float((logits().detach() - first).std())


@pytest.mark.parametrize("form", ["llama", "gpt2", "qwen3_moe"])
def test_a_step_changes_as_much_at_every_width(form):
    """Coordinate check (Yang et al. 2022, appendix D.1); otherwise it would change about twice as much."""
    assert change(form, 8 * BASE, "mup") == pytest.approx(change(form, 2 * BASE, "mup"), rel=0.3)
    assert change(form, 8 * BASE, "scaled") > 1.8 * change(form, 2 * BASE, "scaled")
    assert change(form, BASE, "mup") == change(form, BASE, "scaled")  # nothing is scaled there


def test_rates_and_decay_of_each_group():
    """Hidden and output matrices learn less and decay the same: torch's AdamW decays by rate * decay."""
    network = fresh_model(decoder_config(wide("llama", 64, "mup"), 64, 2, 3), 0, "fp32", "sdpa")
    settings = AdamW(type="adamw", lr=0.5)  # whose matrices decay by 0.1
    groups = {group["name"]: group for group in parameter_groups(network, settings)}
    assert [len(group["params"]) for group in groups.values()] == [1, 2 * 7 + 1, 2 * 2 + 1]
    rates = {name: peak_learning_rate(group, settings) for name, group in groups.items()}
    assert rates == {"matrices": 0.5, "wide matrices": 0.125, "vectors": 0.5}
    assert [group["weight_decay"] for group in groups.values()] == [0.1, 0.4, 0.0]


def test_it_is_for_adam():
    run = {
        "stage": "pretrain", "output": "runs/x", "model": wide("llama", 64, "mup").model_dump(),
        "data": {"type": "corpus", "sources": [{"corpus": "a", "source": "b"}], "sequence_length": 32},
        "batch": {"global_size": 2, "micro_size": 1}, "duration": {"steps": 3}, "engine": {"gradient_clipping": 0},
    }  # fmt: skip
    assert validate(RunConfig, {**run, "optimizer": {"type": "adamw", "lr": 0.1}}, "test")
    with pytest.raises(ConfigError, match=r"optimizer.type \(muon\) must be adamw when model.init is mup"):
        validate(RunConfig, {**run, "optimizer": {"type": "muon", "lr": 0.1}}, "test")


def test_a_run_that_goes_on_from_it_learns_at_the_same_rates(tmp_path):
    config = wide("llama", 8 * BASE, "mup")
    decoder_config(config, 64, 2, 3).save_pretrained(tmp_path)
    network = empty_model(AutoConfig.from_pretrained(tmp_path), "fp32", "sdpa")
    shares = {group["name"]: group["rate_share"] for group in parameter_groups(network, AdamW(type="adamw", lr=1e-2))}
    assert shares == {"wide matrices": 1 / 8, "matrices": 1.0, "vectors": 1.0}
    adapted = add_lora(network, LoraAdapter(type="lora", rank=2), 0)
    assert {group["rate_share"] for group in parameter_groups(adapted, AdamW(type="adamw", lr=1e-2))} == {1.0}


def test_another_optimizer_is_refused_there():
    form = decoder_config(wide("llama", 8 * BASE, "mup"), 64, 2, 3)
    config = run_config(optimizer={"type": "lion", "lr": 1e-3})
    with pytest.raises(ConfigError, match=r"optimizer\.type \(lion\) must be adamw: the model that the run starts"):
        assemble(config, form, 64, torch.device("cpu"), partial(initial_weights, seed=0))
