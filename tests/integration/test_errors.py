"""What a user gets wrong is told in one sentence with exit status 2, no traceback, and nothing is touched."""

import pytest
import yaml

from pipeline.cli import main
from tests.distributed.jobs import free_port
from tests.integration.conftest import write_recipe


def say(done) -> str:
    """The sentence on standard error."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("tarmac: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.learning_rate=1", ["unknown key optimizer.learning_rate"]),
        ("engine.zero_stge=1", ["engine.zero_stge", "did you mean zero_stage"]),
        ("batch.micro_size=many", ["batch.micro_size", "'many'"]),
        ("model.num_heads=5", ["hidden_size (32)", "num_heads (5)"]),
        ("tokenizer=nowhere", ["tokenizer nowhere", "tokenizer.model"]),
        ("data.sources.0.corpus=nowhere", ["nowhere", "manifest.json"]),
        ("data.sources.0.source=web", ["'web'", "code"]),
        ("batch.global_size=1000000", ["batch.global_size", "1000000"]),
        ("data.sequence_length=512", ["data.sequence_length (512)", "max_positions (256)"]),
        ("optimizer={lr: 1}", ["optimizer.type is missing"]),
        ("model={type: checkpoint, run: runs/nope}", ["run runs/nope does not exist"]),
    ],
)
def test_wrong_training_config(tmp_path, corpus, capsys, monkeypatch, override, words):
    names = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    for name, value in names.items():  # else a process that starts a job of its own sets them for all later tests
        monkeypatch.setenv(name, str(value))
    recipe = write_recipe(tmp_path / "recipe.yaml", corpus, tmp_path / "run")
    assert main(["train", str(recipe), override]) == 2
    sentence = capsys.readouterr().err.strip()
    assert sentence.startswith("tarmac: ")
    assert "\n" not in sentence
    for word in words:
        assert word in sentence
    assert not (tmp_path / "run").exists()


def test_missing_config_file(forked):
    assert "nowhere.yaml" in say(forked("train", "nowhere.yaml", status=2))


def test_config_of_another_stage(forked):
    assert "tarmac finetune" in say(forked("train", "configs/finetune/sft.yaml", status=2))


def test_corpus_with_another_tokenizer_than_the_checkpoints(tmp_path, corpus, tarmac, forked):
    other = tmp_path / "other"
    (tmp_path / "a.txt").write_text("Some words about nothing in particular, again and again. " * 400)
    (tmp_path / "b.txt").write_text("Other words about something else, over and over and over. " * 400)
    prep = {
        "stage": "prep", "output": str(other), "tokenizer": {"type": "train", "vocab_size": 300},
        "sources": [{"name": "code", "reader": {"type": "text", "paths": [str(tmp_path)]}}],
    }  # fmt: skip
    (tmp_path / "prep.yaml").write_text(yaml.safe_dump(prep))
    tarmac("prep", tmp_path / "prep.yaml")
    recipe = write_recipe(tmp_path / "recipe.yaml", other, tmp_path / "run")
    sentence = say(forked("train", recipe, f"tokenizer={corpus}/tokenizer", status=2))
    assert "another tokenizer" in sentence
    assert not (tmp_path / "run").exists()


def test_empty_corpus(tmp_path, tarmac):
    (tmp_path / "empty.txt").write_text("")
    prep = {
        "stage": "prep", "output": str(tmp_path / "out"), "tokenizer": {"type": "train", "vocab_size": 300},
        "sources": [{"name": "code", "reader": {"type": "text", "paths": [str(tmp_path / "empty.txt")]}}],
    }  # fmt: skip
    (tmp_path / "prep.yaml").write_text(yaml.safe_dump(prep))
    assert "code" in say(tarmac("prep", tmp_path / "prep.yaml", status=2))
    assert not (tmp_path / "out").exists()


def test_run_folder_in_use_or_not_a_run(tmp_path, corpus, tarmac, forked):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    recipe = write_recipe(tmp_path / "recipe.yaml", corpus, tmp_path / "run")
    assert "thesis.txt" in say(forked("train", recipe, status=2))
    assert (tmp_path / "run" / "thesis.txt").read_text() == "mine"
    assert "config.yaml" in say(tarmac("report", tmp_path / "run", status=2))


def test_loss_that_is_no_number_ends_the_run_and_is_never_saved(tmp_path, corpus, forked):
    recipe = write_recipe(tmp_path / "recipe.yaml", corpus, tmp_path / "run")
    done = forked("train", recipe, "engine.precision=fp32", "optimizer.lr=1e20", status=1)
    assert "not finite" in say(done)
    assert not list((tmp_path / "run").glob("checkpoints/step-*"))
