import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from pipeline.config.evaluate import EvaluateConfig
from pipeline.config.load import load, validate
from pipeline.data.validation import corpus_batches
from pipeline.errors import ConfigError, EvaluationError, TokenizerError
from pipeline.evaluation.measure import measure
from pipeline.runtime.files import read_json_lines
from pipeline.stages.evaluate import evaluate
from pipeline.tokenizer.base import Tokenizer
from tests.unit.small import small_corpus, small_model, small_run, small_texts, small_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return small_tokenizer(tmp_path_factory.mktemp("evaluate") / "tokenizer")


def make_world(folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """A corpus, pairs, a flat model and a model of mere noise; the values of a config over them."""
    small_corpus(folder / "corpus", tokenizer, small_texts(40), small_texts(6, first=300))
    pairs = [
        {"messages": [{"role": "user", "content": f"step_{n}"}, {"role": "assistant", "content": f"It adds {n}."}]}
        for n in range(8)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    data = {
        "type": "corpus",
        "sources": [{"corpus": str(folder / "corpus"), "source": "small"}],
        "sequence_length": 32,
    }
    small_run(folder / "flat", tokenizer, small_model(tokenizer.vocab_size, std=1e-4), data)
    small_run(folder / "noise", tokenizer, small_model(tokenizer.vocab_size, std=1.0), data)
    return {
        "stage": "evaluate",
        "output": str(folder / "figures" / "out.json"),
        "models": {"flat": str(folder / "flat"), "noise": str(folder / "noise")},
        "sets": {
            "text": {"type": "corpus", "corpus": str(folder / "corpus"), "sequence_length": 32},
            "pairs": {"type": "instruct", "path": str(folder / "pairs.jsonl"), "sequence_length": 64},
        },
        "micro_size": 3,
    }


def run(values: dict[str, Any]) -> tuple[dict[str, Any], str]:
    console = Console(file=io.StringIO(), width=160)
    result = evaluate(validate(EvaluateConfig, values, "test"), console)
    return result, console.file.getvalue()


def test_figures_are_measured_written_and_printed(tmp_path: Path, tokenizer: Tokenizer) -> None:
    values = make_world(tmp_path, tokenizer)
    values["checks"] = [
        {"type": "beats", "model": "flat", "other": "noise", "set": "pairs"},
        {"type": "below_unigram", "model": "flat", "set": "text", "max_ratio": 2.0},
    ]
    result, printed = run(values)
    assert result == json.loads(Path(values["output"]).read_text())
    figures = {(one["model"], one["set"]): one for one in result["figures"]}
    assert set(figures) == {(model, name) for model in ("flat", "noise") for name in ("text", "pairs")}
    assert figures["flat", "text"]["loss"] == pytest.approx(math.log(tokenizer.vocab_size), rel=1e-3)
    batches = corpus_batches(tmp_path / "corpus", 32, 5)
    model = small_model(tokenizer.vocab_size, std=1.0)
    expected = measure(model, batches, tokenizer.byte_lengths())
    noise = figures["noise", "text"]
    assert noise["loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert noise["bits_per_byte"] == pytest.approx(expected.bits_per_byte, rel=1e-5)
    assert noise["tokens"] == expected.tokens
    assert 0 < result["baselines"]["text"]["unigram_loss"] < figures["flat", "text"]["loss"]
    assert [check["passed"] for check in result["checks"]] == [True, True]
    for text in ("(unigram)", "(gzip)", f"{noise['loss']:.4f}", f"{noise['bits_per_byte']:.4f}", "passed: flat has"):
        assert text in printed


def test_every_run_gets_its_rows(tmp_path: Path, tokenizer: Tokenizer) -> None:
    result, _ = run(make_world(tmp_path, tokenizer))
    rows = read_json_lines(tmp_path / "noise" / "evaluations.jsonl")
    assert [(row["step"], row["set"]) for row in rows] == [(3, "text"), (3, "pairs")]
    assert rows[0]["unigram_loss"] == result["baselines"]["text"]["unigram_loss"]
    assert rows[1]["unigram_loss"] is None
    assert set(rows[0]) == {
        "time",
        "step",
        "set",
        "loss",
        "perplexity",
        "bits_per_byte",
        "tokens",
        "unigram_loss",
        "ema",
    }


def test_a_failed_check_ends_with_1_after_the_figures_are_written(tmp_path: Path, tokenizer: Tokenizer) -> None:
    values = make_world(tmp_path, tokenizer)
    values["checks"] = [
        {"type": "beats", "model": "noise", "other": "flat", "set": "pairs"},
        {"type": "below_unigram", "model": "flat", "set": "text", "max_ratio": 0.85},
        {"type": "beats", "model": "flat", "other": "noise", "set": "pairs"},
    ]
    with pytest.raises(EvaluationError) as caught:
        run(values)
    assert caught.value.exit_code == 1
    written = json.loads(Path(values["output"]).read_text())
    assert [check["passed"] for check in written["checks"]] == [False, False, True]
    bits = {one["model"]: one["bits_per_byte"] for one in written["figures"] if one["set"] == "pairs"}
    limit = 0.85 * written["baselines"]["text"]["unigram_loss"]
    assert str(caught.value).startswith("2 of 3 checks failed: noise has")
    for number in (bits["noise"], bits["flat"], limit):
        assert f"{number:.4f}" in str(caught.value)


def test_a_corpus_of_another_tokenizer_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    values = make_world(tmp_path, tokenizer)
    other = small_tokenizer(tmp_path / "other", vocab_size=390)
    small_corpus(tmp_path / "elsewhere", other, small_texts(10), small_texts(3))
    values["sets"] = {"text": {"type": "corpus", "corpus": str(tmp_path / "elsewhere"), "sequence_length": 32}}
    with pytest.raises(TokenizerError, match=r"model flat .* was trained with tokenizer .* but sets\.text"):
        run(values)
    assert not Path(values["output"]).exists()


def test_sequences_longer_than_the_model_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    values = make_world(tmp_path, tokenizer)
    values["sets"]["text"]["sequence_length"] = 300
    with pytest.raises(ConfigError, match=r"sets\.text\.sequence_length \(300\) is more than the 256 positions"):
        run(values)


def test_a_diverged_model_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    values = make_world(tmp_path, tokenizer)
    model = small_model(tokenizer.vocab_size)
    torch.nn.init.constant_(model.lm_head.weight, math.nan)
    data = {"type": "instruct", "train": "x", "validation": "x", "sequence_length": 32}
    values["models"] = {"broken": str(small_run(tmp_path / "broken", tokenizer, model, data))}
    with pytest.raises(EvaluationError, match="model broken has a loss of nan on set text: its training diverged"):
        run(values)


def test_an_output_that_cannot_be_written_is_named_before_measuring(tmp_path: Path, tokenizer: Tokenizer) -> None:
    values = make_world(tmp_path, tokenizer)
    values["output"] = str(tmp_path / "pairs.jsonl" / "out.json")
    with pytest.raises(ConfigError, match="cannot be written"):
        run(values)
    assert not (tmp_path / "flat" / "evaluations.jsonl").exists()


def test_a_unigram_check_needs_a_corpus_set(tmp_path: Path, tokenizer: Tokenizer) -> None:
    values = make_world(tmp_path, tokenizer)
    values["checks"] = [{"type": "below_unigram", "model": "flat", "set": "pairs", "max_ratio": 0.85}]
    with pytest.raises(ConfigError, match="set 'pairs' has no unigram baseline"):
        run(values)


def test_the_shipped_recipe_is_valid() -> None:
    config = load(EvaluateConfig, "configs/evaluate/demo.yaml")
    assert [check.type for check in config.checks] == ["below_unigram", "beats"]


def test_averages_are_of_models_that_are_named() -> None:
    values = {"stage": "evaluate", "output": "out.json", "models": {"mine": "run"}, "ema": ["other"],
              "sets": {"text": {"type": "corpus", "corpus": "corpus"}}}  # fmt: skip
    with pytest.raises(ConfigError, match="ema names model 'other'; models has mine"):
        validate(EvaluateConfig, values, "test")
