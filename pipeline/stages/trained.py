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
from pipeline.engine.checkpoint.weights import find_checkpoint, load_weights, mean_weights
from pipeline.errors import CheckpointError
from pipeline.models.adapters import add_lora, merge_lora
from pipeline.models.attention import DOCUMENTS
from pipeline.models.build import DTYPES, empty_model
from pipeline.models.processor import lacks_bf16, widen_products
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

    model: PreTrainedModel
    tokenizer_fingerprint: str
    steps: tuple[int, ...]
    """The checkpoints whose mean it is, newest first."""
    digest: str
    """sha256 over the checkpoints' files."""

    @property
    def step(self) -> int:
        """The newest of them."""
        return self.steps[0]

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
        attention: Which attention; by default the one it was trained with, but `sdpa` for `documents`.

    Raises:
        RunError: The folder is not a run.
        CheckpointError: There is no such checkpoint, or not so many, or one is damaged.
    """
    config = read_run(run)
    trained_with = "sdpa" if config.engine.attention == DOCUMENTS else config.engine.attention  # it keeps no cache
    base = load_base(run, step, average=average, dtype=dtype, attention=attention or trained_with)
    tokenizer = load_tokenizer(Path(run) / "tokenizer")
    return TrainedModel(base.model.eval(), tokenizer, config, base.step, Path(run), base.steps)


def load_for_inference(run: str | Path, step: int | None = None) -> TrainedModel:
    """A run's model in the precision it was trained in, on the GPU if there is one. Raises as `load_trained` does."""
    precision = read_run(run).engine.precision
    trained = load_trained(run, step, dtype=precision)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "bf16" and lacks_bf16(device):
        widen_products(trained.model)
    trained.model.to(device)
    return trained


def load_base(run: str | Path, step: int | None, *, average: int = 1, dtype: str, attention: str) -> Base:
    """A checkpoint's model, or the mean of several, with adapters merged, to start from.

    Of low-rank updates both factors are averaged, as all that was trained is. Raises RunError or CheckpointError.
    """
    config = read_run(run)
    folders, commits = zip(*_find(run, step, average), strict=True)
    require_seal(Path(run), commits[0])
    weights = load_weights(folders[0]) if average == 1 else mean_weights(folders)
    if isinstance(config.adapter, LoraAdapter):
        model = _merged(config, commits[0], weights, attention)
    else:
        model = empty_model(read_model_config(run), "fp32", attention)
        _fill(model, weights, run)
    round_weights(model, dtype)
    return Base(model, commits[0].state["tokenizer"], tuple(commit.step for commit in commits), digest(commits))


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


def _merged(config: RunConfig, commit: Commit, weights: dict[str, torch.Tensor], attention: str) -> PreTrainedModel:
    """A LoRA run's model: its base, which must be the very bytes it was trained on, plus its updates."""
    assert isinstance(config.model, CheckpointModel)
    assert isinstance(config.adapter, LoraAdapter)
    expected = commit.state["base"]
    base = load_base(
        config.model.run, expected["step"], average=config.model.average, dtype="fp32", attention=attention
    )
    if base.digest != expected["digest"]:
        raise CheckpointError(
            f"run {config.output} was trained on other weights than run {config.model.run} step {base.step} holds now;"
            " restore that checkpoint"
        )
    wrapped = add_lora(base.model, config.adapter, config.seed)
    _fill(wrapped, weights, config.output, only="lora_")
    return merge_lora(wrapped)


def _fill(model: torch.nn.Module, weights: dict[str, torch.Tensor], run: str | Path, only: str = "") -> None:
    """Put weights into a model. Raises CheckpointError unless all whose name holds `only` are given, and no other."""
    missing, unexpected = model.load_state_dict(weights, strict=False)
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    absent = [name for name in missing if only in name and name not in tied]
    if absent or unexpected:
        names = ", ".join([*absent, *unexpected][:3])
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
