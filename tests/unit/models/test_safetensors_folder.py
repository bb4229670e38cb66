"""Weights of a folder, read one by one: whole and in parts, of older files, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pipeline.errors import CheckpointError
from pipeline.models.build import fresh_model
from pipeline.models.forms import decoder_config
from pipeline.models.safetensors_folder import folder_digest, folder_weights, read_form, weight_files
from tests.unit.models.decoder_forms import decoder

WEIGHTS = "model.safetensors"


def write(folder: Path, form: str, **saving) -> Path:
    config = decoder_config(decoder(form), 61, 2, 3)
    fresh_model(config, 0, "fp32", "sdpa").save_pretrained(folder, **saving)
    return folder


def empty(folder: Path):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(read_form(folder))


def read(folder: Path) -> dict[str, torch.Tensor]:
    weights = folder_weights(folder, empty(folder))
    return {name: weights.read(name) for name in weights.shapes}


def change(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite(folder: Path, edit) -> None:
    weights = load_file(folder / WEIGHTS)
    edit(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("form", ["llama", "qwen3_moe", "gpt2"])
def test_weights_in_several_files_are_those_of_one(tmp_path, form):
    whole, parts = write(tmp_path / "whole", form), write(tmp_path / "parts", form, max_shard_size="20KB")
    assert len(weight_files(parts)) > 2
    found, expected = read(parts), dict(AutoModelForCausalLM.from_pretrained(whole).named_parameters())
    assert found.keys() == expected.keys()
    assert all(torch.equal(one, expected[name]) for name, one in found.items())
    assert folder_digest(whole) != folder_digest(parts)


def test_a_weight_is_read_when_it_is_asked_for(tmp_path):
    """One that is missing is told of at once, by the names alone."""
    folder = write(tmp_path / "model", "llama")
    rewrite(folder, lambda weights: weights.update({"model.norm.weight": torch.ones(3)}))
    weights = folder_weights(folder, empty(folder))
    assert weights.read("model.embed_tokens.weight").ndim == 2
    with pytest.raises(CheckpointError, match=r"weight model.norm.weight is torch.float32 of shape \(3,\)"):
        weights.read("model.norm.weight")
    rewrite(folder, lambda weights: weights.pop("model.norm.weight"))
    with pytest.raises(CheckpointError, match=r"has no weight model.norm.weight; is it whole\?"):
        folder_weights(folder, empty(folder))


def test_older_files_are_read(tmp_path):
    """GPT-2's own leave the model's prefix out and hold masks; some hold the frequencies of rotary positions."""
    folder = write(tmp_path / "gpt2", "gpt2")
    expected = read(folder)

    def as_of_old(weights):
        for name in list(weights):
            weights[name.removeprefix("transformer.")] = weights.pop(name)
        weights["h.0.attn.bias"] = torch.ones(1, 1, 4, 4)
        weights["h.1.rotary_emb.inv_freq"] = torch.ones(4)

    rewrite(folder, as_of_old)
    found = read(folder)
    assert found.keys() == expected.keys()
    assert all(torch.equal(one, expected[name]) for name, one in found.items())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda w: w.update(extra=torch.ones(2)), r"no part of the model that config.json names has extra"),
        (
            lambda w: w.update({"lm_head.weight": torch.ones(60, 32)}),
            r"lm_head.weight is torch.float32 of shape",
        ),
        (lambda w: w.update({"lm_head.weight": torch.ones(61, 32, dtype=torch.int8)}), r"is torch.int8 of shape"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, edit, message):
    folder = write(tmp_path / "model", "llama")
    rewrite(folder, edit)
    with pytest.raises(CheckpointError, match=message):
        read(folder)


def test_pickles_and_incomplete_folders_are_refused(tmp_path):
    folder = write(tmp_path / "model", "llama", max_shard_size="20KB")
    weight_files(folder)[1].unlink()
    with pytest.raises(CheckpointError, match=r"lacks model-.*safetensors, which its index names; download it again"):
        weight_files(folder)
    pickled = write(tmp_path / "pickled", "llama")
    (pickled / WEIGHTS).rename(pickled / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no \*.safetensors; pytorch_model.bin is a pickle, which can run code"):
        weight_files(pickled)
    cut = write(tmp_path / "cut", "llama")
    (cut / WEIGHTS).write_bytes((cut / WEIGHTS).read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged"):
        read(cut)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config"}},
            r"model_type 'mine', and no code of",
        ),
        ({"quantization_config": {"bits": 4}}, r"holds quantised weights"),
        ({"model_type": "t5", "architectures": ["T5Model"]}, r"is a T5Model, which is no causal language model"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, r"is a BertForMaskedLM, which is no causal"),
    ],
)
def test_models_that_are_none_of_ours_are_refused(tmp_path, changes, message):
    folder = write(tmp_path / "model", "llama")
    change(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_form(folder)


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"config.json cannot be read: No such file or directory"):
        read_form(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json cannot be read: Expecting"):
        read_form(tmp_path)


def test_code_that_a_folder_names_is_not_taken_along(tmp_path):
    folder = write(tmp_path / "model", "llama")
    change(folder, auto_map={"AutoConfig": "code.Config"})
    assert "auto_map" not in read_form(folder).to_dict()
