"""A trained model from a run folder, without a job: for fine-tuning, evaluation, generation and export."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from pipeline.config.model import CheckpointModel, LoraAdapter
from pipeline.config.run import RunConfig
from pipeline.engine.checkpoint.commit import Commit, committed_steps
from pipeline.engine.checkpoint.weights import find_checkpoint, saved_weights
from pipeline.errors import CheckpointError
from pipeline.models.adapters import add_lora, merge_lora
from pipeline.models.build import DTYPES, empty_model
from pipeline.models.processor import lacks, widen_products
from pipeline.models.weights import Weights, fill_model, misfits, weights_of
from pipeline.stages.run_folder import read_run
from pipeline.stages.seal import require_seal
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.load import load_tokenizer


@dataclass(frozen=True)
class TrainedModel:
    """A model in evaluation mode, adapters merged, with its tokenizer."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    config: RunConfig
    step: int
    run: Path
    steps: tuple[int, ...]
    """The checkpoints whose mean it is, newest first; `step` alone where nothing was averaged."""


@dataclass(frozen=True)
class Base:
    """The model that another run starts from, and which bytes it is."""

    run: Path
    form: PretrainedConfig
    """transformers' config of it."""
    weights: Weights
    """Adapters merged."""
    tokenizer_fingerprint: str
    steps: tuple[int, ...]
    """The checkpoints whose mean it is, newest first."""
    digest: str
    """sha256 over the checkpoints' files."""

    @property
    def step(self) -> int:
        """The newest of them."""
        return self.steps[0]

    def require_fit(self, model: torch.nn.Module) -> None:
        """Raise CheckpointError unless its weights are those of a model, no more and no less."""
        _require_fit(model, self.weights, self.run)

    def model(self, dtype: str, attention: str) -> PreTrainedModel:
        """The whole model, its weights rounded. Raises CheckpointError unless they are this model's."""
        model = empty_model(self.form, "fp32", attention)
        self.require_fit(model)
        fill_model(model, self.weights)
        round_weights(model, dtype)
        return model

    def to_json(self) -> dict[str, Any]:
        """What the checkpoints of a run that starts from it say of it."""
        return {"step": self.step, "digest": self.digest}


def load_trained(
    run: str | Path, step: int | None = None, *, average: int = 1, dtype: str = "bf16", attention: str | None = None
) -> TrainedModel:
    """The model of a run's checkpoint, the newest good one by default.

    Args:
        run: The run folder.
        step: Which checkpoint.
        average: The mean of the weights of so many checkpoints, that one and those before it.
        dtype: `bf16` or `fp32`; the master weights are rounded to it.
        attention: Which attention; by default the one it was trained with.

    Raises:
        RunError: The folder is not a run.
        CheckpointError: There is no such checkpoint, or not so many, or one is damaged.
    """
    config = read_run(run)
    base = load_base(run, step, average=average)
    tokenizer = load_tokenizer(Path(run) / "tokenizer")
    model = base.model(dtype, attention or config.engine.attention).eval()
    return TrainedModel(model, tokenizer, config, base.step, Path(run), base.steps)


def load_for_inference(run: str | Path, step: int | None = None) -> TrainedModel:
    """A run's model in the precision it was trained in, on the GPU if there is one. Raises as `load_trained` does."""
    precision = read_run(run).engine.precision
    trained = load_trained(run, step, dtype=precision)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if lacks(precision, device):
        widen_products(trained.model)
    trained.model.to(device)
    return trained


def load_base(run: str | Path, step: int | None, *, average: int = 1) -> Base:
    """A checkpoint's model, or the mean of several, with adapters merged, to start from; its weights are not read yet.

    Of low-rank updates both factors are averaged, as all that was trained is; they are merged here, in a whole model.
    Raises RunError or CheckpointError.
    """
    config = read_run(run)
    folders, commits = zip(*_find(run, step, average), strict=True)
    require_seal(Path(run), commits[0])
    weights = saved_weights(*folders)
    if isinstance(config.adapter, LoraAdapter):
        weights = _merged(config, commits[0], weights)
    steps = tuple(commit.step for commit in commits)
    return Base(Path(run), read_model_config(run), weights, commits[0].state["tokenizer"], steps, digest(commits))


def _find(run: str | Path, step: int | None, number: int) -> list[tuple[Path, Commit]]:
    """A checkpoint, the newest good one by default, and the ones before it, all of them verified; newest first."""
    checkpoints = Path(run) / "checkpoints"
    found = [find_checkpoint(checkpoints, step)]
    older = [one for one in committed_steps(checkpoints) if one < found[0][1].step]
    if len(older) < number - 1:
        have = ", ".join(map(str, [*older, found[0][1].step]))
        raise CheckpointError(
            f"average ({number}) is more than the checkpoints up to step {found[0][1].step} of run {run}, which are"
            f" those of steps {have}; lower it"
        )
    return found + [find_checkpoint(checkpoints, one) for one in reversed(older[len(older) - number + 1 :])]


def round_weights(model: PreTrainedModel, dtype: str) -> None:
    """Round the parameters; buffers stay in fp32, as they do under DeepSpeed and in transformers' own loading."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(DTYPES[dtype])


def _merged(config: RunConfig, commit: Commit, weights: Weights) -> Weights:
    """A LoRA run's weights: its base, which must be the very bytes it was trained on, plus its updates."""
    assert isinstance(config.model, CheckpointModel)
    assert isinstance(config.adapter, LoraAdapter)
    expected = commit.state["base"]
    base = load_base(config.model.run, expected["step"], average=config.model.average)
    if base.digest != expected["digest"]:
        raise CheckpointError(
            f"run {config.output} was trained on other weights than run {config.model.run} step {base.step} holds now;"
            " restore that checkpoint"
        )
    wrapped = add_lora(base.model("fp32", "sdpa"), config.adapter, config.seed)
    _require_fit(wrapped, weights, config.output, only=".lora_")
    fill_model(wrapped, weights)
    return weights_of(merge_lora(wrapped))


def _require_fit(model: torch.nn.Module, weights: Weights, run: str | Path, only: str = "") -> None:
    """Raise CheckpointError unless all weights of a model whose name holds `only` are given, and no other."""
    if strange := [name for name in misfits(model, weights) if only in name or name in weights.shapes]:
        names = ", ".join(strange[:3])
        raise CheckpointError(f"the checkpoint of run {run} does not fit its model ({names}); was model.json changed?")


def digest(commits: Sequence[Commit]) -> str:
    """One sha256 for some checkpoints: over their files' names and hashes."""
    text = "\n".join(f"{file.name} {file.sha256}" for commit in commits for file in commit.files)
    return hashlib.sha256(text.encode()).hexdigest()


def read_model_config(run: str | Path) -> PretrainedConfig:
    """transformers' config of a run's model. Raises CheckpointError if it is missing."""
    try:
        values: dict[str, Any] = json.loads((Path(run) / "model.json").read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"run {run} has no readable model.json ({error}); it never started training") from error
    return AutoConfig.for_model(**values)
