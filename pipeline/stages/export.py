"""`tarmac export`: a run's checkpoint as a Hugging Face folder, refused unless it behaves as the trained model does.

The folder is written beside its place, loaded by plain transformers in a new process, and renamed into place only if
that process computes the same logits and token ids, bit for bit. Both sides run on the CPU in the same type with the
same attention (SDPA, transformers' default) and number of threads, so no tolerance is needed.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import GenerationConfig
from transformers.utils.logging import disable_progress_bar

from pipeline.config.data import InstructData
from pipeline.config.export import ExportConfig
from pipeline.data.chat import jinja_template, render_prompt
from pipeline.errors import ExportError
from pipeline.models.encoders import is_encoder
from pipeline.runtime.files import sync_file, sync_folder
from pipeline.stages.export_card import model_card, weights_of
from pipeline.stages.export_check import LOGITS_NAME, TOKENS_NAME, probe_logits
from pipeline.stages.export_probes import Probes, find_probes
from pipeline.stages.export_sums import write_sums
from pipeline.stages.trained import TrainedModel, load_trained
from pipeline.tokenizer.convert import write_huggingface


def export(config: ExportConfig) -> Path:
    """Write `config.output` and return it.

    Raises:
        ExportError: The output exists, or the written folder does not behave as the model; then nothing is left.
        RunError, CheckpointError: The run cannot be loaded.
    """
    output = Path(config.output)
    with partial_folder(output) as partial:
        trained = load_trained(
            config.run, config.step, average=config.average, ema=config.ema, dtype=config.dtype, attention="sdpa"
        )
        probes = find_probes(trained)
        write_folder(trained, partial)
        verify_folder(partial, trained, probes)
        write_sums(partial)
        commit_folder(partial, output)
    print(
        f"{output}: weights are {weights_of(trained)} of {trained.run}; reloaded in a new process, logits of"
        f" {len(probes.sequences)} sequences and ids of {len(probes.texts)} texts are the trained model's"
    )
    return output


@contextmanager
def partial_folder(output: Path) -> Iterator[Path]:
    """An empty folder beside `output`, gone afterwards unless renamed. Raises ExportError if it exists or cannot be."""
    if output.exists():
        raise ExportError(f"output {output} already exists; remove it or choose another")
    partial = output.with_name(output.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        raise ExportError(f"output {output} cannot be written: {error.strerror}; choose another") from error
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_folder(trained: TrainedModel, folder: Path) -> None:
    """Weights, configs, tokenizer and model card."""
    model, tokenizer = trained.model, trained.tokenizer
    model.config.eos_token_id, model.config.pad_token_id = tokenizer.eos_id, tokenizer.pad_id
    if not is_encoder(model.config):
        _prepare_to_generate(trained)
    disable_progress_bar()
    model.save_pretrained(folder)
    write_huggingface(tokenizer, folder)
    if is_chat(trained):
        (folder / "chat_template.jinja").write_text(jinja_template(tokenizer), encoding="utf-8")
    (folder / "README.md").write_text(model_card(trained), encoding="utf-8")


def _prepare_to_generate(trained: TrainedModel) -> None:
    model, tokenizer = trained.model, trained.tokenizer
    ends = [token for token in (tokenizer.eos_id, tokenizer.control_id("<|end|>")) if token is not None]
    model.config.use_cache = True
    model.generation_config = GenerationConfig(
        eos_token_id=ends if is_chat(trained) else tokenizer.eos_id, pad_token_id=tokenizer.pad_id
    )


def is_chat(trained: TrainedModel) -> bool:
    """Whether the run learned conversations."""
    return isinstance(trained.config.data, InstructData)


def verify_folder(folder: Path, trained: TrainedModel, probes: Probes) -> None:
    """Compare a folder with the trained model by loading it in a new process. Raises ExportError where they differ."""
    chats = probes.chats if is_chat(trained) else ()
    with tempfile.TemporaryDirectory() as scratch:
        question = {"texts": probes.texts, "sequences": probes.sequences, "chats": chats}
        Path(scratch, "probes.json").write_text(json.dumps(question), encoding="utf-8")
        _run_check(folder, Path(scratch))
        _compare_logits(load_file(Path(scratch, LOGITS_NAME)), trained, probes)
        answers = json.loads(Path(scratch, TOKENS_NAME).read_text(encoding="utf-8"))
    tokenizer = trained.tokenizer
    expected = [tokenizer.encode(text) for text in probes.texts]
    _compare_tokens("ids of text", expected, answers["texts"])
    _compare_tokens("text of ids", [tokenizer.decode(ids) for ids in expected], answers["decoded"])
    _compare_tokens("ids of chat", [render_prompt(chat, tokenizer) for chat in chats], answers["chats"])


def commit_folder(partial: Path, output: Path) -> None:
    """Sync a folder's files to disk, all with the rights of those written here, and rename it into place."""
    rights = (partial / "README.md").stat().st_mode
    for path in partial.rglob("*"):
        if path.is_file():
            path.chmod(rights)  # safetensors writes for the owner alone
        sync_file(path)
    sync_folder(partial)
    partial.rename(output)
    sync_folder(output.parent)


def _run_check(folder: Path, scratch: Path) -> None:
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    module = "pipeline.stages.export_check"
    command = [sys.executable, "-m", module, str(folder), str(scratch / "probes.json"), str(scratch)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ExportError(f"export refused: transformers cannot load the written folder ({reason})")


def _compare_logits(found: dict[str, torch.Tensor], trained: TrainedModel, probes: Probes) -> None:
    expected = probe_logits(trained.model.to("cpu"), probes.sequences)
    for name, logits in expected.items():
        if found[name].dtype != logits.dtype:
            raise ExportError(f"export refused: logits are {found[name].dtype}, the trained model's {logits.dtype}")
        if not torch.equal(found[name], logits):
            gap = float((found[name].float() - logits.float()).abs().max())
            raise ExportError(
                f"export refused: the written folder's logits differ from the trained model's by up to {gap:.3g}"
                f" on probe {name}; verify the checkpoint and export again"
            )


def _compare_tokens(what: str, expected: list[Any], found: list[Any]) -> None:
    for number, (one, other) in enumerate(zip(expected, found, strict=True)):
        if one != other:
            place = next(
                (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
            )
            raise ExportError(
                f"export refused: {what} {number} is not the trained tokenizer's from position {place}"
                f" ({other[place : place + 5]!r} instead of {one[place : place + 5]!r}); its tokenizer has no exact"
                " Hugging Face form"
            )
