"""A trained model from a run's checkpoints: of one, of the mean of several, as the start of another run."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.config.export import ExportConfig
from pipeline.config.load import dump, validate
from pipeline.config.run import RunConfig
from pipeline.engine.checkpoint.commit import Commit, begin, commit, hashed_file, read_commit, step_name
from pipeline.engine.checkpoint.index import INDEX_NAME, index_of
from pipeline.engine.checkpoint.tensors import Part, write_tensors
from pipeline.errors import CheckpointError
from pipeline.models.adapters import add_lora
from pipeline.models.weights import fill_model
from pipeline.runtime.files import append_json_line, write_text
from pipeline.stages.building import build, open_base
from pipeline.stages.export import export
from pipeline.stages.seal import STATE_KEY, seal
from pipeline.stages.trained import digest, load_base, load_for_inference, load_trained
from pipeline.tokenizer.load import load_tokenizer
from tests.unit.small import small_checkpoint, small_model, small_run, small_tokenizer

DATA: dict[str, Any] = {"type": "corpus", "sources": [{"corpus": "unused", "source": "small"}], "sequence_length": 32}
STEPS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with four checkpoints of different weights."""
    folder = tmp_path_factory.mktemp("averaged")
    tokenizer = small_tokenizer(folder / "tokenizer")
    run = small_run(folder / "run", tokenizer, small_model(tokenizer.vocab_size, seed=1), DATA, step=1)
    state = read_commit(run / "checkpoints" / step_name(1)).state
    for step in STEPS[1:]:
        small_checkpoint(run / "checkpoints", step, masters(small_model(tokenizer.vocab_size, seed=step)), state)
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def masters(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {f"master/model.{name}": one for name, one in model.named_parameters() if one.requires_grad}


def mean_of(vocab_size: int, steps: tuple[int, ...]) -> dict[str, torch.Tensor]:
    models = [dict(small_model(vocab_size, seed=step).named_parameters()) for step in steps]
    return {name: torch.stack([one[name].double() for one in models]).mean(0).float() for name in models[0]}


def assert_same(found: torch.nn.Module, expected: dict[str, torch.Tensor]) -> None:
    weights = dict(found.named_parameters())
    assert weights.keys() == expected.keys()
    for name, one in expected.items():
        torch.testing.assert_close(weights[name], one, rtol=1e-6, atol=1e-8)


def base(run: Path, step: int | None = None, average: int = 1) -> Any:
    return load_base(run, step, average=average)


@pytest.mark.parametrize(("step", "average", "steps"), [
    (None, 1, (4,)), (None, 2, (4, 3)), (3, 2, (3, 2)), (3, 3, (3, 2, 1)), (None, 4, (4, 3, 2, 1)),
])  # fmt: skip
def test_the_newest_up_to_a_step_are_averaged(
    whole: Path, step: int | None, average: int, steps: tuple[int, ...]
) -> None:
    found = base(whole, step, average)
    assert (found.steps, found.step) == (steps, steps[0])
    assert_same(found.model("fp32", "sdpa"), mean_of(found.form.vocab_size, steps))
    commits = [read_commit(whole / "checkpoints" / step_name(one)) for one in steps]
    assert found.digest == digest(commits)
    assert found.digest != base(whole, step, average + 1 if len(steps) < steps[0] else average - 1).digest


def test_more_than_there_are_cannot_be_averaged(whole: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"average \(3\) is more than .* up to step 2 of run .* steps 1, 2; lower"
    ):
        base(whole, 2, 3)


def test_a_damaged_one_is_never_part_of_a_mean(run: Path) -> None:
    (run / "checkpoints" / step_name(3) / INDEX_NAME).write_text("{}")
    with pytest.raises(CheckpointError, match=r"step-00000003: index\.json has 2 bytes, should have"):
        base(run, average=2)
    assert base(run, 2, 2).steps == (2, 1)


def test_an_export_of_a_mean_says_so(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"step": 4, "set": "text", "loss": 1.0, "perplexity": 2.7, "bits_per_byte": 1.1}
    append_json_line(run / "evaluations.jsonl", row)
    values = {"stage": "export", "run": str(run), "output": str(tmp_path / "out"), "average": 3, "dtype": "fp32"}
    output = export(validate(ExportConfig, values, "test"))
    assert "weights are the mean of steps 2, 3, 4 of" in capsys.readouterr().out
    card = (output / "README.md").read_text()
    assert "| Step | 4; the weights are the mean of steps 2, 3, 4 |" in card
    assert "## Evaluation" not in card
    written = load_file(output / "model.safetensors")
    expected = mean_of(len(written["lm_head.weight"]), (4, 3, 2))
    for name, one in expected.items():
        torch.testing.assert_close(written[name], one, rtol=1e-6, atol=1e-8)


def test_the_average_that_a_run_kept_is_started_from_and_exported(run: Path, tmp_path: Path) -> None:
    append_json_line(run / "evaluations.jsonl", {"step": 5, "set": "text", "loss": 1.0})
    tokenizer = load_tokenizer(run / "tokenizer")
    kept = small_model(tokenizer.vocab_size, seed=9)
    tensors = masters(small_model(tokenizer.vocab_size, seed=5))
    tensors |= {name.replace("master/", "ema/"): one for name, one in masters(kept).items()}
    small_checkpoint(run / "checkpoints", 5, tensors, read_commit(run / "checkpoints" / step_name(4)).state)
    expected = dict(kept.named_parameters())
    config = recipe(tmp_path / "tuned", run, model={"type": "checkpoint", "run": str(run), "ema": True})
    found = build(config, tokenizer, torch.device("cpu"), open_base(config, tokenizer))
    fill_model(found.loss.model, found.weights)
    assert_same(found.loss.model, expected)
    values = {"stage": "export", "run": str(run), "output": str(tmp_path / "out"), "ema": True, "dtype": "fp32"}
    output = export(validate(ExportConfig, values, "test"))
    card = (output / "README.md").read_text()
    assert "| Step | 5; the weights are the moving averages of step 5 |" in card
    assert "## Evaluation" not in card
    written = load_file(output / "model.safetensors")
    assert all(torch.equal(written[name], one) for name, one in expected.items())
    averaged = load_for_inference(run, ema=True).model.state_dict()
    assert all(torch.equal(averaged[name], one.to(averaged[name].dtype)) for name, one in expected.items())


def recipe(output: Path, base_run: Path, **changes: Any) -> RunConfig:
    values = {
        "stage": "pretrain", "output": str(output), "model": {"type": "checkpoint", "run": str(base_run)}, "data": DATA,
        "batch": {"global_size": 2, "micro_size": 1}, "duration": {"steps": 3},
        "optimizer": {"type": "muon", "lr": 0.02}, "engine": {"compile": False, "gradient_clipping": 0}, **changes,
    }  # fmt: skip
    return validate(RunConfig, values, "test")


def test_updates_of_low_rank_are_averaged_factor_by_factor(run: Path, tmp_path: Path) -> None:
    """On the base that they were trained on, itself a mean."""
    start = base(run, 3, 2)
    model = {"type": "checkpoint", "run": str(run), "step": 3, "average": 2}
    config = recipe(tmp_path / "tuned", run, model=model, adapter={"type": "lora", "rank": 2})
    factors = []
    for step in (1, 2):
        wrapped = add_lora(base(run, 3, 2).model("fp32", "sdpa"), config.adapter, seed=0)
        torch.manual_seed(step)
        with torch.no_grad():
            for one in wrapped.parameters():
                if one.requires_grad:
                    one.normal_()
        factors.append(masters(wrapped))
    write_run(config, run, factors, {"base": {"step": start.step, "digest": start.digest}})
    found = dict(base(tmp_path / "tuned", average=2).model("fp32", "sdpa").named_parameters())
    name = "model.layers.1.mlp.down_proj"
    a, b = (
        (factors[0][key] + factors[1][key]) / 2
        for key in (f"master/model.base_model.model.{name}.lora_{letter}.default.weight" for letter in "AB")
    )
    expected = dict(start.model("fp32", "sdpa").named_parameters())[f"{name}.weight"] + 16 * b @ a
    torch.testing.assert_close(found[f"{name}.weight"], expected, rtol=1e-4, atol=1e-4)


def write_run(config: RunConfig, like: Path, tensors: list[dict[str, torch.Tensor]], state: dict[str, Any]) -> None:
    """A run folder with a checkpoint of each of some weights."""
    folder = Path(config.output)
    folder.mkdir()
    write_text(folder / "config.yaml", dump(config))
    shutil.copy(like / "model.json", folder)
    shutil.copytree(like / "tokenizer", folder / "tokenizer")
    tokenizer = load_tokenizer(folder / "tokenizer").fingerprint()
    for step, one in enumerate(tensors, 1):
        small_checkpoint(folder / "checkpoints", step, one, {"tokenizer": tokenizer, STATE_KEY: seal(folder), **state})


def commit_of_three_ranks(run: Path, step: int, model: torch.nn.Module) -> None:
    """A checkpoint of Muon's state, as three ranks at ZeRO 3 write it: each has a third of every tensor."""
    state = read_commit(run / "checkpoints" / step_name(1)).state
    partial = begin(run / "checkpoints", step)
    tensors = {**masters(model), "momentum_buffer/model.lm_head.weight": torch.ones(5, 7)}
    records, written = [], []
    for rank in range(3):
        parts = []
        for key, one in tensors.items():
            share = -(-one.numel() // 3)
            values = one.detach().reshape(-1)[rank * share : (rank + 1) * share].clone()
            parts.append(Part(key, tuple(one.shape), rank * share, values.numel(), values.dtype, lambda v=values: v))
        record, rows = write_tensors(partial, f"state/rank-{rank:05d}.safetensors", parts)
        records.append(record)
        written += rows
    index = index_of("MuonWithAuxAdam", written, {})
    records.append(hashed_file(partial, INDEX_NAME, index.to_bytes()))
    commit(partial, Commit(step, 3, 0, {"zero_stage": 3}, state, tuple(records)))


def test_pretraining_starts_from_the_weights_of_any_run(run: Path, tmp_path: Path) -> None:
    """Of one with another optimizer, stage and number of ranks: weights alone, on their own schedule."""
    tokenizer = load_tokenizer(run / "tokenizer")
    model = small_model(tokenizer.vocab_size, seed=9)
    commit_of_three_ranks(run, 9, model)
    config = recipe(tmp_path / "warm", run, optimizer={"type": "adamw", "lr": 1e-3})
    assert config.duration.steps == 3
    start = open_base(config, tokenizer)
    assert start is not None
    assert start.step == 9
    ingredients = build(config, tokenizer, torch.device("cpu"), start)
    fill_model(ingredients.loss.model, ingredients.weights)
    assert_same(ingredients.loss.model, dict(model.named_parameters()))
    assert all(one.requires_grad and one.dtype == torch.float32 for one in ingredients.loss.parameters())
    config = recipe(tmp_path / "warm", run, model={"type": "checkpoint", "run": str(run), "average": 2})
    averaged = open_base(config, tokenizer, step=2)
    assert averaged is not None
    assert averaged.steps == (2, 1)


def test_a_run_is_loaded_with_its_newest_good_weights(run: Path) -> None:
    trained = load_trained(run, dtype="fp32")
    assert (trained.step, trained.steps, trained.run) == (4, (4,), run)
    assert not trained.model.training
    assert load_trained(run, 3, average=2).steps == (3, 2)
