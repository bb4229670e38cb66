"""The run folder: what makes a run itself, written once, and compared when the same command is given again."""

import platform
import socket
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.config.load import dump, read_mapping, validate
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError, RunError
from pipeline.runtime.files import write_text

MAY_CHANGE = (
    "output", "tracking", "checkpoints", "evaluation", "batch.micro_size",
    "engine.compile", "engine.attention", "engine.activation_checkpointing", "engine.timeout_seconds",
)  # fmt: skip
"""Keys that a resumed run may have changed; they do not change what is learned."""

_PACKAGES = ("torch", "deepspeed", "transformers", "peft", "numpy", "sentencepiece", "tokenizers")


def make_run_folder(config: RunConfig) -> None:
    """Make the run folder. Raises RunError if it cannot be made or holds something else."""
    folder = Path(config.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"output {folder} cannot be made: {error.strerror}; choose another folder") from error
    others = [path.name for path in folder.iterdir() if path.name != "lock"]
    if others and not (folder / "config.yaml").exists():
        raise RunError(f"output {folder} holds other files ({others[0]}) and no config.yaml; choose a new folder")


def open_run(config: RunConfig) -> None:
    """Write the run's config, or check that it is the same. Raises ConfigError naming what differs."""
    path = Path(config.output) / "config.yaml"
    if path.exists():
        _compare(read_mapping(path), config.model_dump(mode="json"), path.parent)
    write_text(path, dump(config))


def read_run(folder: str | Path) -> RunConfig:
    """The config of a run folder. Raises RunError if it is not one."""
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        raise RunError(f"run {folder} has no config.yaml; give the folder of a training run")
    return validate(RunConfig, read_mapping(path), str(path))


def environment() -> dict[str, Any]:
    """Versions and machine, for the record; nothing of the process's environment variables, which may hold secrets."""
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _compare(was: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    before, after = _flatten(was), _flatten(now)
    changed = [
        f"{key} was {before.get(key)!r}, is {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not key.startswith(MAY_CHANGE)
    ]
    if changed:
        raise ConfigError(
            f"run {folder} was made with another config ({'; '.join(changed)}); restore it or choose another output"
        )


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(values, dict):
        items = [(f"{prefix}{key}", value) for key, value in values.items()]
    elif isinstance(values, list):
        items = [(f"{prefix}{index}", value) for index, value in enumerate(values)]
    else:
        return {prefix.rstrip("."): values}
    return {key: value for name, inner in items for key, value in _flatten(inner, f"{name}.").items()}
