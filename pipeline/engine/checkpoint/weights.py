"""The trained weights of a checkpoint as whole tensors, without a job: for export, evaluation and fine-tuning."""

from pathlib import Path

import torch

from pipeline.engine.checkpoint.commit import (
    Commit,
    all_faults,
    committed_steps,
    read_commit,
    step_name,
)
from pipeline.engine.checkpoint.index import read_index
from pipeline.engine.checkpoint.layout import BUFFER, EMA, FROZEN, MASTER, OBJECTIVE_PREFIX
from pipeline.engine.checkpoint.tensors import TensorReader
from pipeline.errors import CheckpointError
from pipeline.models.weights import Weights
from pipeline.runtime.logs import get_logger

_log = get_logger("checkpoints")


def find_checkpoint(checkpoints: Path, step: int | None = None) -> tuple[Path, Commit]:
    """The checkpoint of a step, or the newest that verifies; all its files are verified, nothing is renamed.

    That newer ones are damaged is logged.

    Raises:
        CheckpointError: There is none, or the one asked for is damaged.
    """
    steps = committed_steps(checkpoints)
    if step is not None and step not in steps:
        have = ", ".join(map(str, steps)) or "none"
        raise CheckpointError(f"step {step} has no checkpoint in {checkpoints}; it has {have}")
    reasons = []
    for candidate in [step] if step is not None else reversed(steps):
        folder = checkpoints / step_name(candidate)
        try:
            commit = read_commit(folder)
            found = all_faults(folder, commit)
        except CheckpointError as error:
            found = [str(error)]
        if not found:
            if reasons:
                _log.warning("%s is used, a newer one is damaged: %s", folder, "; ".join(reasons))
            return folder, commit
        reasons += [f"{folder.name}: {fault.removeprefix(f'{folder.name}: ')}" for fault in found]
    if step is not None:
        raise CheckpointError(f"step {step} of {checkpoints} is damaged: {'; '.join(reasons)}; use another step")
    if reasons:
        raise CheckpointError(f"no checkpoint in {checkpoints} is whole: {'; '.join(reasons)}")
    raise CheckpointError(f"{checkpoints} has no checkpoint; train the run first")


def saved_weights(*folders: Path, ema: bool = False) -> Weights:
    """Weights of a checkpoint that `find_checkpoint` has verified, or the mean of several, read one at a time.

    Those that were trained are the master weights; the bf16 weights that trained are exactly their rounding. Or, with
    `ema`, the average that the run kept of them. A mean is summed in fp64. Averaging along a run's path: Izmailov et
    al. 2018, arXiv:1803.05407.

    Raises:
        CheckpointError: One is not as its index says, holds no average, or they are of different models; or, where a
            weight is read, a file cannot be.
    """
    first, *others = (_Saved(folder, ema) for folder in folders)
    for other in others:
        if other.shapes != first.shapes:
            raise CheckpointError(
                f"{other.folder.name} is of another model than {first.folder.name}; average checkpoints of one run"
            )

    def mean(name: str) -> torch.Tensor:
        total = first.read(name).double()
        for other in others:
            total += other.read(name)
        return (total / len(folders)).float()

    return Weights(first.shapes, mean if others else first.read)


class _Saved:
    """Whole fp32 weights of one checkpoint, by the model's own names."""

    def __init__(self, folder: Path, ema: bool) -> None:
        self.folder, index = folder, read_index(folder)
        if ema and not index.names(EMA):
            raise CheckpointError(f"{folder} holds no average of its weights; leave out ema, or train with ema.decay")
        self._keys = {
            name.removeprefix(OBJECTIVE_PREFIX): f"{kind}/{name}"
            for kind in (EMA if ema else MASTER, FROZEN, BUFFER)
            for name in index.names(kind)
        }
        self._reader = TensorReader(folder, index)
        self.shapes = {name: index.tensor(key).shape for name, key in self._keys.items()}

    def read(self, name: str) -> torch.Tensor:
        return self._reader.whole(self._keys[name]).float()
