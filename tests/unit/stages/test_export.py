import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.config.export import ExportConfig
from pipeline.config.load import load, validate
from pipeline.data.chat import Message, render_prompt
from pipeline.errors import ExportError
from pipeline.stages.export import export, partial_folder, verify_folder, write_folder
from pipeline.stages.export_probes import find_probes
from pipeline.stages.export_sums import sum_faults
from pipeline.stages.trained import TrainedModel, load_trained
from pipeline.stages.verify import verify
from pipeline.tokenizer.base import Tokenizer
from tests.unit.small import small_corpus, small_model, small_run, small_texts, small_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return small_tokenizer(tmp_path_factory.mktemp("export") / "tokenizer")


def corpus_run(folder: Path, tokenizer: Tokenizer) -> Path:
    small_corpus(folder / "corpus", tokenizer, small_texts(5), ["def spelled():\n    return '</s>'\n", *small_texts(6)])
    source = {"corpus": str(folder / "corpus"), "source": "small"}
    data = {"type": "corpus", "sources": [source], "sequence_length": 32}
    return small_run(folder / "run", tokenizer, small_model(tokenizer.vocab_size), data)


def chat_run(folder: Path, tokenizer: Tokenizer) -> Path:
    data = {"type": "instruct", "train": "gone.jsonl", "validation": "gone.jsonl", "sequence_length": 32}
    return small_run(folder / "run", tokenizer, small_model(tokenizer.vocab_size), data)


def export_config(folder: Path, **more: Any) -> ExportConfig:
    values = {"stage": "export", "run": str(folder / "run"), "output": str(folder / "out" / "model"), **more}
    return validate(ExportConfig, values, "test")


def written(folder: Path, run: Path, dtype: str = "bf16") -> tuple[Path, TrainedModel]:
    trained = load_trained(run, dtype=dtype, attention="sdpa")
    partial = folder / "written"
    partial.mkdir()
    write_folder(trained, partial)
    return partial, trained


def change_weight(folder: Path, name: str, amount: float) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights[name][0, 0] += amount
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_an_export_is_the_trained_model(tmp_path: Path, tokenizer: Tokenizer, dtype: str) -> None:
    run = corpus_run(tmp_path, tokenizer)
    output = export(export_config(tmp_path, dtype=dtype))
    trained = load_trained(run, dtype=dtype, attention="sdpa")
    model = AutoModelForCausalLM.from_pretrained(output)
    ids = torch.tensor([tokenizer.encode(small_texts(1)[0])])
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, trained.model(input_ids=ids).logits)
    assert model.dtype == {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    assert model.config.use_cache
    assert model.generation_config.eos_token_id == tokenizer.eos_id
    text = "def step_9(value):\n    return  value\n"
    assert AutoTokenizer.from_pretrained(output)(text).input_ids == tokenizer.encode(text)
    assert [path.name for path in output.parent.iterdir()] == ["model"]


def test_the_card_tells_what_the_run_did(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = corpus_run(tmp_path, tokenizer)
    row = {"step": 3, "set": "text", "loss": 1.23456, "perplexity": 3.4369, "bits_per_byte": 1.1}
    (run / "evaluations.jsonl").write_text(json.dumps({**row, "step": 2, "loss": 9}) + "\n" + json.dumps(row) + "\n")
    card = (written(tmp_path, run)[0] / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "| Step | 3 |" in card
    assert "| text | 1.2346 | 3.44 | 1.1000 |" in card
    assert str(tmp_path) not in card


def test_a_chat_run_takes_its_chat_form_along(tmp_path: Path, tokenizer: Tokenizer) -> None:
    chat_run(tmp_path, tokenizer)
    output = export(export_config(tmp_path))
    messages = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="def f(x):"),
        Message(role="assistant", content="It adds 1."),
        Message(role="user", content="  and g?\n"),
    ]
    exported = AutoTokenizer.from_pretrained(output)
    ids = exported.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids == render_prompt(messages, tokenizer)
    ends = AutoModelForCausalLM.from_pretrained(output).generation_config.eos_token_id
    assert ends == [tokenizer.eos_id, tokenizer.control_id("<|end|>")]


def test_a_changed_token_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder, trained = written(tmp_path, corpus_run(tmp_path, tokenizer))
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["model"]["merges"] = values["model"]["merges"][1:]
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ExportError, match=r"ids of text \d is not the trained tokenizer's from position"):
        verify_folder(folder, trained, find_probes(trained))


def test_a_folder_that_cannot_be_loaded_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder, trained = written(tmp_path, corpus_run(tmp_path, tokenizer))
    (folder / "config.json").write_text("{}")
    with pytest.raises(ExportError, match="transformers cannot load the written folder"):
        verify_folder(folder, trained, find_probes(trained))


def test_one_changed_weight_is_refused_and_nothing_is_left(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run, output = corpus_run(tmp_path, tokenizer), tmp_path / "out" / "model"
    trained = load_trained(run, attention="sdpa")

    def refused_export() -> None:
        with partial_folder(output) as partial:
            write_folder(trained, partial)
            change_weight(partial, "model.layers.1.mlp.down_proj.weight", 0.05)
            verify_folder(partial, trained, find_probes(trained))

    with pytest.raises(ExportError, match="logits differ from the trained model's by up to"):
        refused_export()
    assert list(output.parent.iterdir()) == []


def test_an_existing_output_is_left_alone(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "out" / "model").mkdir(parents=True)
    (tmp_path / "out" / "model" / "mine.txt").write_text("kept")
    with pytest.raises(ExportError, match="already exists; remove it or choose another"):
        export(export_config(tmp_path))
    assert (tmp_path / "out" / "model" / "mine.txt").read_text() == "kept"


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ExportError, match="cannot be written: Not a directory; choose another"):
        export(export_config(tmp_path))


def test_probes_are_held_out_text_without_control_words(tmp_path: Path, tokenizer: Tokenizer) -> None:
    trained = load_trained(corpus_run(tmp_path, tokenizer))
    probes = find_probes(trained)
    assert probes.texts[:4] == tuple(small_texts(4))
    assert all(tokenizer.eos_id not in tokenizer.encode(text) for text in probes.texts)
    assert tuple(tokenizer.encode(small_texts(1)[0])) == probes.sequences[0]


def test_the_shipped_recipe_is_valid() -> None:
    assert load(ExportConfig, "configs/export/huggingface.yaml").dtype == "bf16"


def test_an_export_can_be_verified_by_anybody(tmp_path: Path, tokenizer: Tokenizer) -> None:
    corpus_run(tmp_path, tokenizer)
    output = export(export_config(tmp_path))
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=output, check=True)
    assert verify(output) == 0
    weights = output / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    (output / "planted.bin").write_bytes(b"?")
    (output / "generation_config.json").unlink()
    wrong = {name: fault for name, fault in sum_faults(output) if fault}
    assert wrong == {
        "generation_config.json": "cannot be read: No such file or directory",
        "model.safetensors": "has other bytes than were written",
        "planted.bin": "is not listed in SHA256SUMS",
    }
    assert verify(output) == 1
