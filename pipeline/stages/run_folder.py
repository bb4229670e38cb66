"""The run folder: what makes a run itself, written once, and compared when the same command is given again."""

import platform
import socket
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.config.load import dump, read_mapping, validate
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError, RunError
from pipeline.runtime.code_version import code_version
from pipeline.runtime.files import read_json_lines, write_text
from pipeline.stages.seal import fixed_keys, flat_keys, require_seal

_KEEPS_WEIGHTS = ("seed", "stage", "optimizer.")
"""Keys that a new run may have otherwise and still begin with this one's weights."""
_BEFORE = ("lock", "launch.json")
"""What may be there before a run is."""
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
    if has_begun(folder):
        _require_same(read_mapping(folder / "config.yaml"), config.model_dump(mode="json"), folder)
        return
    if (folder / "config.yaml").exists():  # of a start that was refused, or killed before its first step
        return
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    others = [name for name in names if name not in _BEFORE and not name.endswith(".partial")]  # what a kill may leave
    if others:
        raise RunError(f"output {folder} holds other files ({others[0]}) and no config.yaml; choose a new folder")


def has_begun(folder: Path) -> bool:
    """Whether a run was ever trained there: its config binds the same command from then on."""
    if not (folder / "config.yaml").exists():
        return False
    is_started = any(row["event"] == "start" for row in read_json_lines(folder / "journal.jsonl"))
    return is_started or any((folder / "checkpoints").glob("*"))


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


def changes(config: RunConfig) -> dict[str, list[Any]]:
    """Each key, flat and dotted, that differs from the config in the run folder: what it was and what it is.

    Empty where there is no run yet. A run is asked before `open_run` writes the new config.

    Raises:
        ConfigError: The config there cannot be read.
    """
    path = Path(config.output) / "config.yaml"
    if not path.exists():
        return {}
    return _differences(flat_keys(read_mapping(path)), flat_keys(config.model_dump(mode="json")))


def told(changed: Mapping[str, Sequence[Any]]) -> list[str]:
    """The same in words, a line for each key."""
    return [f"{key}: {_shown(was)} → {_shown(now)}" for key, (was, now) in changed.items()]


def read_run(folder: str | Path) -> RunConfig:
    """The config of a run folder.

    Raises:
        RunError: It is not one.
        CheckpointError: Its tokenizer, its model's form or its config is not what its checkpoints were made with.
    """
    _require_run(folder)
    require_seal(Path(folder))
    return read_config(folder)


def read_config(folder: str | Path) -> RunConfig:
    """The config of a run folder, whatever became of the rest of it. Raises RunError or ConfigError."""
    _require_run(folder)
    path = Path(folder) / "config.yaml"
    return validate(RunConfig, read_mapping(path), str(path))


def environment() -> dict[str, Any]:
    """Versions and machine, for the record; nothing of the process's environment variables, which may hold secrets."""
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "code": code_version(),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _require_run(folder: str | Path) -> None:
    if not (Path(folder) / "config.yaml").is_file():
        if (Path(folder) / "launch.json").exists():
            raise RunError(f"run {folder} was launched and has not begun; squeue, or the launch's output, says why")
        fault = "has no config.yaml" if Path(folder).exists() else "does not exist"
        raise RunError(f"run {folder} {fault}; give the folder of a training run")


def _require_same(was: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    changed = _differences(fixed_keys(was), fixed_keys(now))
    if not changed:
        return
    keys = "; ".join(f"{key} was {_shown(before)}, is {_shown(after)}" for key, (before, after) in changed.items())
    cure = "restore it or choose another output"
    if all(key.startswith(_KEEPS_WEIGHTS) for key in changed):
        cure += f", which may start from the weights of this one (model: {{type: checkpoint, run: {folder}}})"
    raise ConfigError(f"run {folder} was made with another config ({keys}); {cure}")


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    keys = dict.fromkeys([*was, *now])
    return {key: [was.get(key), now.get(key)] for key in keys if was.get(key) != now.get(key)}


def _shown(value: Any) -> str:
    """A value as a config spells it."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
