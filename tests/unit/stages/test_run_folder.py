"""Which keys of a run's config may change when it is given again, which need a phase, which are refused; the diff."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import cli
from pipeline.config.load import apply_overrides, read_mapping, validate
from pipeline.config.run import RunConfig
from pipeline.engine.checkpoint.commit import newest_commit
from pipeline.errors import ConfigError
from pipeline.stages.data.plan import order_of
from pipeline.stages.ingredients import open_data
from pipeline.stages.run_folder import changes, check_run_folder, open_run, read_config, read_run, told
from pipeline.stages.seal import NEED_A_PHASE, STATE_KEY, fixed_keys, flat_keys, seal
from tests.unit.small import small_checkpoint, small_corpus, small_model, small_run, small_texts, small_tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of three steps on a corpus of two sources."""
    folder = tmp_path_factory.mktemp("given again")
    tokenizer = small_tokenizer(folder / "tokenizer")
    small_corpus(folder / "corpus", tokenizer, small_texts(60), small_texts(6))
    source = {"corpus": str(folder / "corpus"), "source": "small"}
    data = {"type": "corpus", "sources": [source], "sequence_length": 32}
    run = small_run(folder / "run", tokenizer, small_model(tokenizer.vocab_size), data)
    config = read_run(run)
    past = order_of(config, open_data(config).source, None, ()).past(3).to_json()
    state = {"data": past, "tokenizer": tokenizer.fingerprint(), STATE_KEY: seal(run)}
    small_checkpoint(run / "checkpoints", 3, {"master/model.w": torch.ones(2)}, state)
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def given(run: Path, *overrides: str) -> RunConfig:
    """The run's config with changes, for the folder where the run is now."""
    values = apply_overrides(read_mapping(run / "config.yaml"), [f"output={run}", *overrides])
    return validate(RunConfig, values, "test")


MUON = "optimizer={type: muon, lr: 0.02}"

MAY_CHANGE = [
    ("tracking.log_every_steps=1", "tracking.log_every_steps", 10, 1),
    ("checkpoints.keep_last=9", "checkpoints.keep_last", 3, 9),
    ("evaluation.every_steps=7", "evaluation.every_steps", 1000, 7),
    ("faults.spikes.action=rollback", "faults.spikes.action", "warn", "rollback"),
    ("batch.micro_size=2", "batch.micro_size", 1, 2),
    ("engine={zero_stage: 3, precision: fp32}", "engine.zero_stage", 0, 3),
    ("engine={zero_stage: 2, precision: bf16}", "engine.precision", "fp32", "bf16"),
    ("engine={zero_stage: 2, precision: fp32, offload: {optimizer: cpu}}", "engine.offload.optimizer", "none", "cpu"),
    ("engine.gradient_clipping=0.5", "engine.gradient_clipping", 1.0, 0.5),
    ("duration.steps=30", "duration.steps", 3, 30),
    ("duration={tokens: 100000}", "duration.tokens", None, 100000),
    ("schedule={type: wsd, warmup_steps: 2}", "schedule.type", "cosine", "wsd"),
    ("optimizer.lr=3e-4", "optimizer.lr", 1e-3, 3e-4),
    ("optimizer.betas=[0.9, 0.99]", "optimizer.betas.1", 0.95, 0.99),
    ("optimizer.eps=1e-6", "optimizer.eps", 1e-8, 1e-6),
    ("optimizer.weight_decay=0", "optimizer.weight_decay", 0.1, 0.0),
    ("optimizer.decay_embeddings=false", "optimizer.decay_embeddings", True, False),
    ("optimizer.state_precision=8bit", "optimizer.state_precision", "fp32", "8bit"),
    ("ema.decay=0.999", "ema.decay", None, 0.999),
]

REFUSED = [
    ("seed=2", "seed was 0, is 2", True),
    (MUON, "optimizer.type was adamw, is muon", True),
    ("model.hidden_size=64", "model.hidden_size was 32, is 64", False),
    ("model.tie_embeddings=true", "model.tie_embeddings was false, is true", False),
    ("model={type: checkpoint, run: runs/x}", "model.run was none, is runs/x", False),
    ("tokenizer=elsewhere", "tokenizer was none, is elsewhere", False),
]


@pytest.mark.parametrize(("override", "key", "was", "now"), MAY_CHANGE, ids=[one[0] for one in MAY_CHANGE])
def test_how_it_learns_from_here_on_may_change(run: Path, override: str, key: str, was: Any, now: Any) -> None:
    changed = changes(given(run, override))
    assert changed[key] == [was, now]
    assert set(changed) - {"output"} == {one for one in changed if one.startswith(key.split(".")[0])}
    check_run_folder(given(run, override))
    open_run(given(run, override))
    assert not changes(given(run))
    assert read_run(run) == given(run)  # the seal holds


@pytest.mark.parametrize(("override", "sentence", "keeps_weights"), REFUSED, ids=[one[0] for one in REFUSED])
def test_what_the_weights_are_of_may_not(run: Path, override: str, sentence: str, keeps_weights: bool) -> None:
    before = (run / "config.yaml").read_bytes()
    engine = ["engine.gradient_clipping=0"] if override == MUON else []
    with pytest.raises(ConfigError) as raised:
        open_run(given(run, override, *engine))
    assert str(raised.value).startswith(f"run {run} was made with another config (")
    assert sentence in str(raised.value)
    assert "restore it or choose another output" in str(raised.value)
    assert ("model: {type: checkpoint, run: " in str(raised.value)) == keeps_weights
    assert (run / "config.yaml").read_bytes() == before


def test_every_key_is_of_one_kind() -> None:
    """A key that is added is refused until somebody has thought about it; these are those that somebody has."""
    model = {"type": "checkpoint", "run": "runs/x", "step": 3}
    values = {
        "stage": "finetune", "output": "runs/y", "model": model, "adapter": {"type": "lora"}, "tokenizer": "t",
        "data": {"type": "instruct", "train": "a", "validation": "b", "sequence_length": 8},
        "batch": {"global_size": 2, "micro_size": 1}, "duration": {"steps": 3},
        "optimizer": {"type": "muon", "lr": 1e-3}, "engine": {"gradient_clipping": 0},
    }  # fmt: skip
    config = validate(RunConfig, values, "test").model_dump(mode="json")
    fixed = {key for key in fixed_keys(config) if not key.startswith("adapter.target_modules")}
    assert fixed == {
        "stage", "seed", "model.type", "model.run", "model.step", "model.average", "model.ema", "adapter.type",
        "adapter.rank", "adapter.alpha", "objective.type", "tokenizer", "optimizer.type",
    }  # fmt: skip
    assert {key.split(".")[0] for key in flat_keys(config) if key.startswith(NEED_A_PHASE)} == {"data", "batch"}


def test_a_new_run_changes_nothing(run: Path, tmp_path: Path) -> None:
    assert changes(given(tmp_path / "run", f"output={tmp_path / 'new'}")) == {}
    assert told({}) == []


def test_items_of_lists_and_moved_folders_are_told(run: Path) -> None:
    changed = changes(given(run, "tracking.wandb.tags=[a, b]", "data.sources.0.weight=2"))
    assert changed.pop("output")[1] == str(run)
    assert told(changed) == [
        "data.sources.0.weight: none → 2.0",
        "tracking.wandb.tags.0: none → a",
        "tracking.wandb.tags.1: none → b",
    ]
    assert changed["tracking.wandb.tags.1"] == [None, "b"]
    assert told({"engine.compile": [True, False]}) == ["engine.compile: true → false"]


def test_a_config_is_read_whatever_became_of_the_rest(run: Path) -> None:
    (run / "model.json").unlink()
    assert read_config(run).seed == 0


def dry_run(run: Path, *overrides: str) -> int:
    return cli.main(["train", str(run / "config.yaml"), f"output={run}", *overrides, "--dry-run"])


def told_lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    """The lines about the run that is there, without that of its folder, which was moved; and what went wrong."""
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if line.startswith("#") and "output:" not in line]
    return lines, printed.err


def test_a_dry_run_prints_what_would_change(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "config.yaml").read_bytes()
    assert dry_run(run, "optimizer.lr=3e-4", "engine.compile=false") == 0
    lines, _ = told_lines(capsys)
    assert lines == [
        f"# run {run} is at step 3; this config changes this:",
        "#   optimizer.lr: 0.001 → 0.0003",
        "#   engine.compile: true → false",
        "# nothing of it is refused",
    ]
    open_run(given(run))
    assert dry_run(run) == 0
    assert told_lines(capsys)[0] == [f"# run {run} is at step 3; this config changes nothing"]
    assert (run / "config.yaml").read_bytes() != before


def test_a_dry_run_says_what_would_be_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run(run, "seed=4", "optimizer.lr=3e-4") == 2
    lines, error = told_lines(capsys)
    assert lines[1:] == ["#   seed: 0 → 4", "#   optimizer.lr: 0.001 → 0.0003"]
    assert "(seed was 0, is 4); restore it" in error


def test_a_dry_run_asks_the_phase_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run(run, "batch.global_size=4") == 2
    lines, error = told_lines(capsys)
    assert lines[1:] == ["#   batch.global_size: 2 → 4"]
    assert (
        "batch.global_size was 2, is 4; restore that, and to change it from here on add to data.phases: {at_step: 3"
        in error
    )
    assert dry_run(run, "data.phases=[{at_step: 3, global_size: 4}]") == 0
    assert told_lines(capsys)[0][-1] == "# nothing of it is refused"
    commit = newest_commit(run / "checkpoints")
    assert commit is not None
    assert commit.step == 3
    assert dry_run(run, "data.phases=[{at_step: 2, global_size: 4}]") == 2
    assert "data.phases has one at step 2, and steps up to 3 are trained without it" in told_lines(capsys)[1]


def test_a_dry_run_of_a_new_run_says_nothing_of_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(run, f"output={tmp_path / 'new'}") == 0
    assert told_lines(capsys)[0] == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    assert dry_run(run, f"output={tmp_path / 'full'}") == 2
    assert "full holds other files (thesis.txt)" in told_lines(capsys)[1]
