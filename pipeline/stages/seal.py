"""The seal of a run: checksums of what its checkpoints mean nothing without, held by each of its commits.

Tokenizer, model form and the keys of the config that never change are written when a run starts and read back by
every later command. They lie beside the checkpoints, not in them, so the commit vouches for them by their checksums.
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
    "output", "tracking", "checkpoints", "evaluation", "batch.micro_size",
    "engine.compile", "engine.attention", "engine.activation_checkpointing", "engine.timeout_seconds",
    "data.", "batch.global_size",
)  # fmt: skip
"""Keys that a resumed run may have changed: they do not change what is learned, or are judged by the phase table."""


def seal(folder: Path) -> dict[str, str]:
    """sha256 of each fixed file of a run folder by its name, and of the fixed keys of `config.yaml`."""
    files = [folder / "model.json", *(path for path in (folder / "tokenizer").rglob("*") if path.is_file())]
    sums = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    keys = json.dumps(fixed_keys(read_mapping(folder / "config.yaml")), sort_keys=True)
    return sums | {"config.yaml": hashlib.sha256(keys.encode("utf-8")).hexdigest()}


def seal_fault(folder: Path, commit: Commit) -> str | None:
    """What in a run folder is not what a commit of the run was made with, in words; None if nothing is."""
    was = commit.state[STATE_KEY]
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
    """The keys of a run's config, flat and dotted, that a resumed run may not change."""
    return {key: value for key, value in _flatten(config).items() if not key.startswith(MAY_CHANGE)}


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(values, dict):
        items = [(f"{prefix}{key}", value) for key, value in values.items()]
    elif isinstance(values, list):
        items = [(f"{prefix}{index}", value) for index, value in enumerate(values)]
    else:
        return {prefix.rstrip("."): values}
    return {key: value for name, inner in items for key, value in _flatten(inner, f"{name}.").items()}
