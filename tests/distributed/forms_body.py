"""Every form of decoder trained by the real stage, written as an export is, read back, and trained on."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pipeline.config.load import validate
from pipeline.config.run import RunConfig
from pipeline.engine.process_group import ProcessGroup
from pipeline.errors import TarmacError
from pipeline.generation.generate import generate
from pipeline.models.safetensors_folder import folder_weights, read_form
from pipeline.runtime.files import read_json_lines
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.runtime.signals import StopRequest
from pipeline.stages.export import write_folder
from pipeline.stages.export_check import probe_logits
from pipeline.stages.export_probes import find_probes
from pipeline.stages.ingredients import open_data
from pipeline.stages.train import _run
from pipeline.stages.trained import TrainedModel, load_base, load_trained
from pipeline.tokenizer.load import load_tokenizer
from tests.unit.models.decoder_forms import FORMS
from tests.unit.small import small_corpus, small_texts, small_tokenizer

OTHER_INITS = {"gpt2": {"init": "plain"}, "olmo2": {"init": "mup", "base_width": 16}}


def stories(folder_of_runs: str) -> dict[str, Any]:
    """What became of each form, and of what goes on from some of them."""
    folder = Path(folder_of_runs)
    tokenizer = small_tokenizer(folder / "tokenizer")
    small_corpus(folder / "corpus", tokenizer, small_texts(60), small_texts(6, 100))
    group = ProcessGroup(ranks_from_environment(), 60)
    told: dict[str, Any] = {form: _story(folder, form, group) for form in FORMS}
    told["continued"] = _continued(folder, group)
    group.close()
    return told


def train(config: RunConfig, group: ProcessGroup) -> int:
    """The stage itself, of whose runs several share a group: DeepSpeed takes only one in a process."""
    with ExitStack() as stack:
        stop_request = stack.enter_context(closing(StopRequest()))
        return _run(config, open_data(config), group, stop_request, stack)


def recipe(folder: Path, name: str, model: dict[str, Any], corpus: str = "corpus", **more: Any) -> RunConfig:
    return validate(RunConfig, {
        "stage": "pretrain", "output": str(folder / name), "model": model,
        "data": {"type": "corpus", "sources": [{"corpus": str(folder / corpus), "source": "small"}],
                 "sequence_length": 32},
        "batch": {"global_size": 8, "micro_size": 4}, "duration": {"steps": 8},
        "optimizer": {"type": "adamw", "lr": 1e-2}, "schedule": {"type": "constant"},
        "engine": {"compile": False}, "evaluation": {"every_steps": 4, "max_sequences": 8},
        "checkpoints": {"every_steps": 4}, "tracking": {"log_every_steps": 1, "wandb": {"mode": "disabled"}},
        **more,
    }, "test")  # fmt: skip


def _story(folder: Path, form: str, group: ProcessGroup) -> dict[str, Any]:
    model = {"type": form, **FORMS[form], "pad_vocabulary_to": 64, **OTHER_INITS.get(form, {})}
    status = train(recipe(folder, form, model), group)
    trained = load_trained(folder / form, dtype="fp32")
    exported = folder / f"{form}-exported"
    exported.mkdir()
    write_folder(trained, exported)
    reloaded = AutoModelForCausalLM.from_pretrained(exported)
    return {
        "status": status,
        "losses": _column(folder / form, "train/loss"),
        "held_out": _column(folder / form, "validation/loss"),
        "rows": [_trained_rows(folder / form), trained.model.config.vocab_size, reloaded.config.vocab_size],
        "ids": trained.tokenizer.vocab_size,
        "same_logits": _same_logits(trained, reloaded),
        "same_weights": _same_weights(exported, reloaded),
        "generated": max(generate(trained.model, [5, 6, 7], temperature=5.0, top_k=0, top_p=1.0, max_new_tokens=40)),
    }


def _continued(folder: Path, group: ProcessGroup) -> dict[str, Any]:
    """From a folder on: a mixture of experts by all weights, GPT-2 by low-rank updates, and what is refused."""
    experts, gpt2 = folder / "qwen3_moe-exported", folder / "gpt2-exported"
    small_corpus(folder / "other", load_tokenizer(experts), small_texts(60), small_texts(6, 100))
    full = recipe(folder, "full", {"type": "huggingface", "path": str(experts)}, "other")
    adapter = {"type": "lora", "rank": 2, "target_modules": ["c_attn", "c_proj"]}
    more = {"model": {"type": "huggingface", "path": str(gpt2)}, "corpus": "other", "adapter": adapter}
    lora = recipe(folder, "lora", **more)
    found: dict[str, Any] = {"statuses": [train(full, group), train(lora, group)]}
    for name in ("full", "lora"):
        found[name] = _column(folder / name, "train/loss")
    found["lora_moved"] = not _same_logits(load_trained(folder / "lora", dtype="fp32"), _plain(gpt2))
    found["unfit_tokenizer"] = _refusal(recipe(folder, "unfit", {"type": "huggingface", "path": str(experts)}), group)
    _change(gpt2 / "model.safetensors")
    found["changed_base"] = _refusal(recipe(folder, "lora", **more, duration={"steps": 9}), group)
    try:
        load_trained(folder / "lora")
    except TarmacError as error:
        found["changed_under_updates"] = str(error)
    return found


def _refusal(config: RunConfig, group: ProcessGroup) -> str:
    try:
        train(config, group)
    except TarmacError as error:
        return str(error)
    return ""


def _plain(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder)


def _change(path: Path) -> None:
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, path, metadata={"format": "pt"})


def _column(run: Path, name: str) -> list[float]:
    return [row[name] for row in read_json_lines(run / "metrics.jsonl") if name in row]


def _trained_rows(run: Path) -> int:
    return int(load_base(run, None).form.vocab_size)


def _same_logits(trained: TrainedModel, reloaded: torch.nn.Module) -> bool:
    sequences = find_probes(trained).sequences
    one, other = probe_logits(trained.model, sequences), probe_logits(reloaded, sequences)
    return all(torch.equal(logits, other[name]) for name, logits in one.items())


def _same_weights(folder: Path, reloaded: torch.nn.Module) -> bool:
    """Read one by one, into no memory, they are what transformers' own loading finds."""
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(read_form(folder))
    found, expected = folder_weights(folder, empty), dict(reloaded.named_parameters())
    return found.shapes.keys() == expected.keys() and all(
        torch.equal(found.read(name), one) for name, one in expected.items()
    )
