"""The trained weights of a checkpoint as whole fp32 tensors, without a job: for export, evaluation and fine-tuning."""

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

from pipeline.engine.checkpoint.commit import (
    Commit,
    committed_steps,
    faults,
    read_commit,
    step_name,
    unlisted,
)
from pipeline.engine.checkpoint.saving import STATE_FOLDER
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
            found = [*unlisted(folder, commit), *faults(folder, commit.files)]
        except CheckpointError as error:
            found = [str(error)]
        if not found:
            if reasons:
                _log.warning("%s is used, a newer one is damaged: %s", folder, "; ".join(reasons))
            return folder, commit
        reasons += [f"{folder.name}: {fault.removeprefix(f'{folder.name}: ')}" for fault in found]
    if reasons:
        raise CheckpointError(f"no checkpoint in {checkpoints} is whole: {'; '.join(reasons)}")
    raise CheckpointError(f"{checkpoints} has no checkpoint; train the run first")


def load_weights(folder: Path, commit: Commit) -> dict[str, torch.Tensor]:
    """Whole fp32 weights by parameter name, of a checkpoint that `find_checkpoint` has verified.

    With ZeRO these are the master weights; the bf16 weights that trained are exactly their rounding.
    """
    if any(file.name.endswith("optim_states.pt") for file in commit.files):
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # DeepSpeed narrates every file
            weights = get_fp32_state_dict_from_zero_checkpoint(str(folder), tag=STATE_FOLDER)
    else:
        path = folder / STATE_FOLDER / "mp_rank_00_model_states.pt"
        states = torch.load(path, map_location="cpu", weights_only=False)
        weights = states["module"]
    return {name.removeprefix(_OBJECTIVE_PREFIX): tensor.float() for name, tensor in weights.items()}
