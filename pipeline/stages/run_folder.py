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
from pipeline.stages.seal import fixed_keys, require_seal

_PACKAGES = ("torch", "deepspeed", "transformers", "peft", "numpy", "sentencepiece", "tokenizers")


def check_run_folder(config: RunConfig) -> None:
    """Check that the run folder, where there is one, is this run's.

    Raises:
        RunError: It is a file, or holds something else.
        ConfigError: It was made with another config; what differs is named.
    """
    folder = Path(config.output)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"output {folder} is a file; choose another folder")
    if (folder / "config.yaml").exists():
        _compare(read_mapping(folder / "config.yaml"), config.model_dump(mode="json"), folder)
        return
    others = [path.name for path in folder.iterdir() if path.name != "lock"] if folder.exists() else []
    if others:
        raise RunError(f"output {folder} holds other files ({others[0]}) and no config.yaml; choose a new folder")


def make_run_folder(config: RunConfig) -> None:
    """Make the run folder. Raises RunError or ConfigError if it cannot be made or is another run's."""
    check_run_folder(config)
    try:
        Path(config.output).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"output {config.output} cannot be made: {error.strerror}; choose another folder") from error


def open_run(config: RunConfig) -> None:
    """Write the config of a run whose folder is locked. Raises RunError or ConfigError if it is another run's."""
    check_run_folder(config)
    write_text(Path(config.output) / "config.yaml", dump(config))


def read_run(folder: str | Path) -> RunConfig:
    """The config of a run folder.

    Raises:
        RunError: It is not one.
        CheckpointError: Its tokenizer, its model's form or its config is not what its checkpoints were made with.
    """
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        fault = "has no config.yaml" if Path(folder).exists() else "does not exist"
        raise RunError(f"run {folder} {fault}; give the folder of a training run")
    require_seal(Path(folder))
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
    before, after = fixed_keys(was), fixed_keys(now)
    changed = [
        f"{key} was {before.get(key)!r}, is {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    if changed:
        raise ConfigError(
            f"run {folder} was made with another config ({'; '.join(changed)}); restore it or choose another output"
        )
