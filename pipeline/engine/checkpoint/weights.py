"""The trained weights of a checkpoint as whole tensors, without a job: for export, evaluation and fine-tuning."""

from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.engine.checkpoint.commit import (
    Commit,
    all_faults,
    committed_steps,
    read_commit,
    step_name,
)
from pipeline.engine.checkpoint.fragments import BUFFER, EMA, FROZEN, MASTER
from pipeline.engine.checkpoint.index import read_index
from pipeline.engine.checkpoint.tensors import TensorReader
from pipeline.errors import CheckpointError
from pipeline.runtime.logs import get_logger

_log = get_logger("checkpoints")

_OBJECTIVE_PREFIX = "model."


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


def load_weights(folder: Path, *, ema: bool = False) -> dict[str, torch.Tensor]:
    """Whole fp32 weights by parameter name, of a checkpoint that `find_checkpoint` has verified.

    Those that were trained are the master weights; the bf16 weights that trained are exactly their rounding. Or, with
    `ema`, the average that the run kept of them.

    Raises:
        CheckpointError: It is not as its index says, or holds no average.
    """
    index = read_index(folder)
    if ema and not index.names(EMA):
        raise CheckpointError(f"{folder} holds no average of its weights; leave out ema, or train with ema.decay")
    reader = TensorReader(folder, index)
    return {
        name.removeprefix(_OBJECTIVE_PREFIX): reader.whole(f"{kind}/{name}").float()
        for kind in (EMA if ema else MASTER, FROZEN, BUFFER)
        for name in index.names(kind)
    }


def mean_weights(folders: Sequence[Path], *, ema: bool = False) -> dict[str, torch.Tensor]:
    """The mean of several checkpoints' weights or averages, summed in fp64.

    Raises CheckpointError if they are of other models. Averaging along a run's path: Izmailov et al. 2018,
    arXiv:1803.05407.
    """
    first, *others = folders
    totals = {name: weight.double() for name, weight in load_weights(first, ema=ema).items()}
    for folder in others:
        weights = load_weights(folder, ema=ema)
        if {name: one.shape for name, one in weights.items()} != {name: one.shape for name, one in totals.items()}:
            raise CheckpointError(
                f"{folder.name} is of another model than {first.name}; average checkpoints of one run"
            )
        for name, weight in weights.items():
            totals[name] += weight
    return {name: (total / len(folders)).float() for name, total in totals.items()}
