"""Predicting masked tokens: one rank or two, resumed or not, the same noise and the same losses."""

import io
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForMaskedLM, AutoTokenizer

from pipeline.config.evaluate import EvaluateConfig
from pipeline.config.export import ExportConfig
from pipeline.config.load import validate
from pipeline.errors import GenerationError
from pipeline.generation.sampling import Sampling
from pipeline.runtime.files import read_json_lines
from pipeline.stages.evaluate import evaluate
from pipeline.stages.explain.run import open_explained
from pipeline.stages.explain.step import explain_step
from pipeline.stages.export import export
from pipeline.stages.generate import generate
from tests.distributed.jobs import run_job
from tests.faults.runs import Job, ledger, losses, write_recipe
from tests.unit.small import CONTROL_TOKENS, small_corpus, small_texts, small_tokenizer

CONFIGS = [
    {"form": "modernbert", "zero_stage": 0, "precision": "fp32"},
    {"form": "modernbert", "zero_stage": 1, "precision": "fp32", "attention": "sdpa", "compile": True},
    {"form": "modernbert", "zero_stage": 3, "precision": "fp32", "recompute": "full"},
    {"form": "modernbert", "zero_stage": 2, "precision": "bf16", "attention": "sdpa"},
    {"form": "bert", "zero_stage": 2, "precision": "fp32", "attention": "sdpa", "recompute": "full"},
    {"form": "bert", "zero_stage": 3, "precision": "fp32"},
]
STEPS = 6


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """Per world size and config, loss and gradient norm of each step."""
    body = "tests.distributed.masked_body:curves"
    return {
        world_size: run_job(body, world_size, tmp_path_factory.mktemp(f"world{world_size}"), configs=CONFIGS)[0]
        for world_size in (1, 2)
    }


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_every_stage_and_world_size_learns_alike(curves, world_size, number):
    config = CONFIGS[number]
    expected, found = curves[1][4 if config["form"] == "bert" else 0], curves[world_size][number]
    tolerance = {"fp32": 1e-5, "bf16": 2e-2}[config["precision"]]
    for what in ("loss", "norm"):
        for one, other in zip(expected[what], found[what], strict=True):
            assert math.isclose(one, other, rel_tol=tolerance)
    assert len(set(found["loss"])) == len(found["loss"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> SimpleNamespace:
    """A run on two ranks, and one that had one rank for its first half; a corpus whose tokenizer has a mask token."""
    folder = tmp_path_factory.mktemp("masked")
    tokenizer = small_tokenizer(folder / "tokenizer", control_tokens=[*CONTROL_TOKENS, "<mask>"])
    small_corpus(folder / "corpus", tokenizer, small_texts(200), small_texts(30, first=900))
    changes = {
        "model": {"type": "modernbert", "hidden_size": 32, "intermediate_size": 48, "num_layers": 3, "num_heads": 4,
                  "max_positions": 64, "local_attention": 8},
        "objective": {"type": "masked", "whole_words": True},
        "engine": {"zero_stage": 2, "precision": "fp32", "compile": False, "attention": "sdpa",
                   "timeout_seconds": 60},
        "checkpoints": {"every_steps": 3, "keep_last": 6}, "evaluation": {"every_steps": 3, "max_sequences": 8},
    }  # fmt: skip
    data = {"type": "corpus", "sources": [{"corpus": str(folder / "corpus"), "source": "small"}],
            "sequence_length": 32, "packing": "best_fit"}  # fmt: skip
    for name, world_sizes in (("whole", (2,)), ("parts", (1, 2))):
        recipe = write_recipe(folder / f"{name}.yaml", folder / "corpus", data=data, **changes)
        for number, world_size in enumerate(world_sizes, 1):
            with Job(recipe, world_size, f"duration.steps={STEPS * number // len(world_sizes)}") as job:
                job.done()
    return SimpleNamespace(folder=folder, whole=folder / "whole", parts=folder / "parts", tokenizer=tokenizer)


def test_a_run_that_changes_its_ranks_sees_the_same_noise_and_learns_the_same(runs) -> None:
    expected, found = losses(runs.whole), losses(runs.parts)
    assert list(expected) == list(found) == [*range(1, STEPS + 1)]
    assert all(math.isclose(expected[step], found[step], rel_tol=1e-5) for step in expected)
    for rank in (0, 1):
        whole, parts = ledger(runs.whole, rank), ledger(runs.parts, rank)
        assert {step: whole[step] for step in (4, 5, 6)} == {step: parts[step] for step in (4, 5, 6)}
    validation = [[row["validation/loss"] for row in read_json_lines(run / "metrics.jsonl") if "validation/loss" in row]
                  for run in (runs.whole, runs.parts)]  # fmt: skip
    assert validation[0] == pytest.approx(validation[1], rel=1e-5)


def test_its_steps_are_explained_by_the_text_behind_the_noise(runs) -> None:
    found = explain_step(open_explained(runs.whole), 2)
    texts = [reading.text for row in found.rows for reading in row.documents]
    assert len(found.rows) == 8
    assert all(text in "".join(small_texts(200)) for text in texts)


def test_it_is_evaluated_on_fixed_noise_beside_the_unigram_baseline_of_the_same_tokens(runs) -> None:
    values = {"stage": "evaluate", "output": str(runs.folder / "figures.json"),
              "models": {"whole": str(runs.whole), "parts": str(runs.parts)},
              "sets": {"text": {"type": "corpus", "corpus": str(runs.folder / "corpus"), "sequence_length": 32}},
              "checks": [{"type": "below_unigram", "model": "whole", "set": "text", "max_ratio": 3.0}]}  # fmt: skip
    result = evaluate(validate(EvaluateConfig, values, "test"), Console(file=io.StringIO()))
    whole, parts = result["figures"]
    assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-5)
    assert result["baselines"]["text"]["gzip_bits_per_byte"] is None
    tokens = sum(len(runs.tokenizer.encode(text)) for text in small_texts(30, first=900))
    assert 0.1 * tokens < whole["tokens"] <= 0.15 * tokens


def test_its_export_is_loaded_by_transformers_and_fills_the_mask(runs) -> None:
    output = runs.folder / "out"
    export(validate(ExportConfig, {"stage": "export", "run": str(runs.whole), "output": str(output)}, "test"))
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(output), AutoTokenizer.from_pretrained(output)
    assert tokenizer.mask_token_id == model.config.mask_token_id == runs.tokenizer.mask_id
    ids = tokenizer("def <mask>", return_tensors="pt").input_ids
    assert ids[0].tolist() == [*runs.tokenizer.encode("def "), runs.tokenizer.mask_id]
    with torch.no_grad():
        assert model(input_ids=ids).logits.shape == (1, ids.shape[1], runs.tokenizer.vocab_size)
    assert "fill-mask" in (Path(output) / "README.md").read_text()


def test_it_does_not_generate(runs) -> None:
    with pytest.raises(GenerationError, match=r"whole predicts masked tokens, .*; name a run whose objective.type is"):
        generate(runs.whole, "def ", Sampling(4))
