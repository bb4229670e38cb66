"""What a run measures in its loop: on two ranks at ZeRO 3, beside the same run that measures nothing, and resumed."""

import gzip
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.tokenizer.load import load_tokenizer
from tests.faults.runs import Job, losses, rows, small_corpus_folder, write_recipe
from tests.unit.small import small_corpus, small_texts

STEPS, EVERY = 12, 5
PROMPTS = ["def step_", ""]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> tuple[Path, Path]:
    """Two of one tokenizer."""
    folder = tmp_path_factory.mktemp("corpora")
    first = small_corpus_folder(folder)
    tokenizer = load_tokenizer(first / "tokenizer")
    small_corpus(folder / "second", tokenizer, small_texts(200, 900), small_texts(40, 1200))
    return first, folder / "second"


def changes(corpora: tuple[Path, Path]) -> dict[str, Any]:
    sources = [{"corpus": str(corpus), "source": "small", "weight": 2 - n} for n, corpus in enumerate(corpora)]
    return {
        "data": {"type": "corpus", "sources": sources, "sequence_length": 32},
        "duration": {"steps": STEPS}, "engine": {"zero_stage": 3, "compile": False, "timeout_seconds": 60},
        "ema": {"decay": 0.9},
        "tracking": {"log_every_steps": EVERY, "wandb": {"mode": "disabled"}},
        "checkpoints": {"every_steps": 100, "keep_best": 1, "best_metric": "validation/other/loss"},
    }  # fmt: skip


def measuring(corpora: tuple[Path, Path]) -> dict[str, Any]:
    """Everything there is to measure."""
    plain = changes(corpora)
    other = {"corpus": str(corpora[1]), "source": "small", "every_steps": 4, "max_sequences": 6}
    samples = {"prompts": PROMPTS, "every_steps": 6, "max_tokens": 8, "temperature": 0.7}
    evaluation = {"every_steps": 6, "max_sequences": 8, "corpora": {"other": other}, "samples": samples}
    tracking = plain["tracking"] | {"profile": {"first_step": 2, "steps": 2, "ranks": [1]}}
    return plain | {"evaluation": evaluation, "tracking": tracking}


@pytest.fixture(scope="module")
def measured(tmp_path_factory, corpora) -> Path:
    recipe = write_recipe(tmp_path_factory.mktemp("measured") / "run.yaml", corpora[0], **measuring(corpora))
    with Job(recipe) as job:
        job.done()
    return job.run


@pytest.fixture(scope="module")
def bare(tmp_path_factory, corpora) -> Path:
    settings = changes(corpora) | {"checkpoints": {"every_steps": 100}}
    recipe = write_recipe(tmp_path_factory.mktemp("bare") / "run.yaml", corpora[0], **settings)
    with Job(recipe) as job:
        job.done()
    return job.run


@pytest.fixture(scope="module")
def resumed(tmp_path_factory, corpora) -> Path:
    """Stopped in the middle of a row, and started again."""
    recipe = write_recipe(tmp_path_factory.mktemp("resumed") / "run.yaml", corpora[0], **measuring(corpora))
    with Job(recipe) as job:
        job.wait_for_step(2)
        job.send(signal.SIGTERM, 1)
        assert set(job.wait()) <= {0, 85}
    with Job(recipe) as job:
        job.done()
    return job.run


def figures(run: Path, *kinds: str) -> dict[tuple[int, str], float]:
    """Of `metrics.jsonl`, those of some kinds."""
    found = {}
    for row in rows(run / "metrics.jsonl"):
        found |= {(row["step"], key): value for key, value in row.items() if key.startswith(kinds)}
    return found


def test_measuring_does_not_change_training(measured, bare):
    assert list(losses(measured)) == [5, 10, 12]
    assert figures(measured, "train/") == figures(bare, "train/")


def test_loss_by_source_is_that_of_all_when_weighted(measured):
    for row in rows(measured / "metrics.jsonl"):
        if "train/loss" in row:
            by_source = {key: value for key, value in row.items() if key.startswith("train/loss/")}
            assert len(by_source) == 2
            assert min(by_source.values()) < row["train/loss"] < max(by_source.values())


def test_a_resumed_run_logs_the_same(measured, resumed):
    kinds = ("train/", "validation/")
    assert figures(resumed, *kinds) == figures(measured, *kinds)
    written = [{key: row[key] for key in row if key != "time"} for row in rows(measured / "samples.jsonl")]
    again = [{key: row[key] for key in row if key != "time"} for row in rows(resumed / "samples.jsonl")]
    assert again == written


def test_corpora_are_evaluated_each_at_its_own_interval(measured):
    steps = [step for step, key in figures(measured, "validation/other/") if key == "validation/other/loss"]
    assert steps == [4, 8, 12]
    assert [step for step, key in figures(measured, "validation/") if key == "validation/loss"] == [6, 12]
    last = {key: value for (step, key), value in figures(measured, "validation/").items() if step == 12}
    assert last["validation/other/tokens"] == 6 * 32
    assert 0 < last["validation/other/bits_per_byte"] < last["validation/other/loss"] / 0.693 * 1.01
    assert last["validation/other/loss"] != last["validation/loss"]
    assert [step for step, key in figures(measured, "validation/") if key == "validation/ema_loss"] == [6, 12]
    assert [step for step, key in figures(measured, "validation/") if key == "validation/other/ema_loss"] == steps


def test_samples_continue_the_prompts(measured):
    written = rows(measured / "samples.jsonl")
    assert [(row["step"], row["prompt"]) for row in written] == [(step, one) for step in (6, 12) for one in PROMPTS]
    assert written[0]["seed"] == written[2]["seed"] != written[1]["seed"]
    assert written[0]["continuation"] != written[2]["continuation"]
    assert all(row["continuation"] for row in written)


def test_the_trace_holds_the_steps_that_were_asked_for(measured):
    (path,) = (measured / "profile").iterdir()
    assert path.name == "step-00000002-rank-00001.json.gz"
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    steps = {event["name"] for event in events if event.get("name", "").startswith("ProfilerStep")}
    assert len(steps) == 2
    assert any("mm" in event.get("name", "") for event in events)
