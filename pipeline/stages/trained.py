"""A trained model from a run folder, without a job: for fine-tuning, evaluation, generation and export."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from pipeline.config.model import CheckpointModel, HuggingFaceModel, LoraAdapter
from pipeline.config.run import RunConfig
from pipeline.engine.checkpoint.commit import Commit, committed_steps
from pipeline.engine.checkpoint.weights import find_checkpoint, saved_weights
from pipeline.errors import CheckpointError
from pipeline.models.adapters import add_lora, merge_lora
from pipeline.models.attention import DOCUMENTS
from pipeline.models.build import DTYPES, empty_model
from pipeline.models.processor import lacks, widen_products
from pipeline.models.safetensors_folder import folder_digest, folder_weights, read_form
from pipeline.models.vocabulary import trim_vocabulary
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
    ema: bool = False
    """Whether it is of the average that the run kept of its weights."""


@dataclass(frozen=True)
class Base:
    """The model that another run starts from, and which bytes it is."""

    form: PretrainedConfig
    """transformers' config of it."""
    weights: Callable[[PreTrainedModel], Weights]
    """Its weights, adapters merged, for a model of its form; raises CheckpointError unless they are that model's."""
    tokenizer_fingerprint: str | None
    """The tokenizer it was trained with; of a model from elsewhere nothing tells."""
    steps: tuple[int, ...]
    """The checkpoints whose mean it is, newest first; none of a model from elsewhere."""
    digest: str
    """sha256 over the files of the checkpoints, or the folder."""

    @property
    def step(self) -> int | None:
        """The newest of them."""
        return self.steps[0] if self.steps else None

    def model(self, dtype: str, attention: str) -> PreTrainedModel:
        """The whole model, its weights rounded. Raises CheckpointError unless they are this model's."""
        model = empty_model(self.form, "fp32", attention)
        fill_model(model, self.weights(model))
        round_weights(model, dtype)
        return model

    def to_json(self) -> dict[str, Any]:
        """What the checkpoints of a run that starts from it say of it."""
        return {"step": self.step, "digest": self.digest}


def load_trained(
    run: str | Path,
    step: int | None = None,
    *,
    average: int = 1,
    ema: bool = False,
    dtype: str = "bf16",
    attention: str | None = None,
) -> TrainedModel:
    """The model of a run's checkpoint, the newest good one by default.

    Args:
        run: The run folder.
        step: Which checkpoint.
        average: The mean of the weights of so many checkpoints, that one and those before it.
        ema: The average of its weights that the run kept, instead of the weights.
        dtype: `bf16` or `fp32`; the master weights are rounded to it.
        attention: Which attention; by default the one it was trained with, but `sdpa` for `documents`.

    Raises:
        RunError: The folder is not a run.
        CheckpointError: There is no such checkpoint, or not so many, or one is damaged.
    """
    config = read_run(run)
    trained_with = "sdpa" if config.engine.attention == DOCUMENTS else config.engine.attention  # it keeps no cache
    base = load_base(run, step, average=average, ema=ema)
    tokenizer = load_tokenizer(Path(run) / "tokenizer")
    model = base.model(dtype, attention or trained_with).eval()
    trim_vocabulary(model, tokenizer.vocab_size)
    return TrainedModel(model, tokenizer, config, base.steps[0], Path(run), base.steps, ema)


def load_for_inference(run: str | Path, step: int | None = None, ema: bool = False) -> TrainedModel:
    """A run's model in the precision it was trained in, on the GPU if there is one. Raises as `load_trained` does."""
    precision = read_run(run).engine.precision
    trained = load_trained(run, step, ema=ema, dtype=precision)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if lacks(precision, device):
        widen_products(trained.model)
    trained.model.to(device)
    return trained


def load_start(model: CheckpointModel | HuggingFaceModel, step: int | None) -> Base:
    """What a run starts from; its weights are not read yet. Raises RunError or CheckpointError.

    Args:
        model: Where it is.
        step: The newest checkpoint that goes into it, where it is of a run; None: as `model` says.
    """
    if isinstance(model, HuggingFaceModel):
        path = model.path
        return Base(read_form(path), lambda whole: folder_weights(path, whole), None, (), folder_digest(path))
    return load_base(model.run, step or model.step, average=model.average, ema=model.ema)


def other_weights(model: CheckpointModel | HuggingFaceModel, step: int | None) -> CheckpointError:
    """That what a run started from is not there any more."""
    if isinstance(model, HuggingFaceModel):
        return CheckpointError(f"model.path {model.path} holds other weights than this run started from; restore them")
    return CheckpointError(
        f"model.run {model.run} holds other weights at step {step} than this run started from; restore that checkpoint"
    )


def load_base(run: str | Path, step: int | None, *, average: int = 1, ema: bool = False) -> Base:
    """A checkpoint's model, or the mean of several, with adapters merged, to start from; its weights are not read yet.

    Of low-rank updates both factors are averaged, as all that was trained is; they are merged here, in a whole model.
    Raises RunError or CheckpointError.
    """
    config = read_run(run)
    folders, commits = zip(*_find(run, step, average), strict=True)
    require_seal(Path(run), commits[0])
    weights = saved_weights(*folders, ema=ema)
    if isinstance(config.adapter, LoraAdapter):
        weights = _merged(config, commits[0], weights)
    steps = tuple(commit.step for commit in commits)
    fitting = partial(_fitting, weights, run)
    return Base(read_model_config(run), fitting, commits[0].state["tokenizer"], steps, digest(commits))


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
    assert isinstance(config.model, CheckpointModel | HuggingFaceModel)
    assert isinstance(config.adapter, LoraAdapter)
    expected = commit.state["base"]
    base = load_start(config.model, expected["step"])
    if base.digest != expected["digest"]:
        where = config.model.path if base.step is None else f"run {config.model.run} step {base.step}"
        raise CheckpointError(f"run {config.output} was trained on other weights than {where} holds now; restore them")
    wrapped = add_lora(base.model("fp32", "sdpa"), config.adapter, config.seed)
    fill_model(wrapped, _fitting(weights, config.output, wrapped, only=".lora_"))
    return weights_of(merge_lora(wrapped))


def _fitting(weights: Weights, run: str | Path, model: torch.nn.Module, only: str = "") -> Weights:
    """The same. Raises CheckpointError unless they are all of a model's whose name holds `only`, and no others."""
    if strange := [name for name in misfits(model, weights) if only in name or name in weights.shapes]:
        names = ", ".join(strange[:3])
        raise CheckpointError(f"the checkpoint of run {run} does not fit its model ({names}); was model.json changed?")
    return weights


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
