"""The seal of a run: checksums of what its checkpoints mean nothing without, held by each of its commits.

Tokenizer, model form and the keys of the config that never change are written when a run starts and read back by
every later command. They lie beside the checkpoints, not in them, so the commit vouches for them by their checksums.
What a resumed run may have changed is no part of it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.config.load import read_mapping
from pipeline.engine.checkpoint.commit import Commit, newest_commit
from pipeline.errors import CheckpointError, ConfigError

STATE_KEY = "run"
"""Where a commit's state holds the seal."""

MAY_CHANGE = (
    "output", "tracking.", "checkpoints.", "evaluation.", "faults.", "batch.micro_size", "duration.", "schedule.",
    "ema.", "engine.", "objective.z_loss",
    "optimizer.lr", "optimizer.adam_lr", "optimizer.betas", "optimizer.eps", "optimizer.momentum",
    "optimizer.weight_decay", "optimizer.decay_embeddings", "optimizer.state_precision", "optimizer.newton_schulz",
)  # fmt: skip
"""Keys that a resumed run may have changed. How it learns from here on is the user's to decide; weights and moments,
which checkpoints hold in fp32, mean the same under any ZeRO stage and precision (stage 0 trains in fp32 only)."""

NEED_A_PHASE = ("data.", "batch.global_size")
"""Keys of which the phase table judges whether they say something else about steps that are trained."""


def seal(folder: Path) -> dict[str, str]:
    """sha256 of each fixed file of a run folder by its name, and of the fixed keys of `config.yaml`."""
    files = [folder / "model.json", *(path for path in (folder / "tokenizer").rglob("*") if path.is_file())]
    sums = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    keys = json.dumps(fixed_keys(read_mapping(folder / "config.yaml")), sort_keys=True)
    return sums | {"config.yaml": hashlib.sha256(keys.encode("utf-8")).hexdigest()}


def seal_fault(folder: Path, commit: Commit) -> str | None:
    """What in a run folder is not what a commit of the run was made with, in words; None if nothing is."""
    was = commit.state.get(STATE_KEY, {})  # a commit of something else has none
    try:
        now = seal(folder)
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    except ConfigError as error:
        return str(error)
    changed = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    return f"{', '.join(changed)} changed since the run started" if changed else None


def require_seal(folder: Path, commit: Commit | None = None) -> None:
    """Raises CheckpointError unless a run folder is what a commit (its newest) says; without any there is no seal."""
    commit = commit or newest_commit(folder / "checkpoints")
    fault = seal_fault(folder, commit) if commit else None
    if fault:
        raise CheckpointError(f"run {folder} is damaged: {fault}; restore it from a copy")


def fixed_keys(config: dict[str, Any]) -> dict[str, Any]:
    """The keys of a run's config, flat and dotted, that a resumed run may not change: what its weights are of."""
    return {key: value for key, value in flat_keys(config).items() if not key.startswith(MAY_CHANGE + NEED_A_PHASE)}


def flat_keys(values: Any, prefix: str = "") -> dict[str, Any]:
    """A config's values by their dotted keys; items of lists go by index, as on the command line."""
    if isinstance(values, dict):
        items = [(f"{prefix}{key}", value) for key, value in values.items()]
    elif isinstance(values, list):
        items = [(f"{prefix}{index}", value) for index, value in enumerate(values)]
    else:
        return {prefix.rstrip("."): values}
    return {key: value for name, inner in items for key, value in flat_keys(inner, f"{name}.").items()}
