"""Which config class a file holds, told by its `stage` key."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.base import Config
from pipeline.config.evaluate import EvaluateConfig
from pipeline.config.export import ExportConfig
from pipeline.config.load import apply_overrides, read_mapping, validate
from pipeline.config.prep.recipe import PrepConfig
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError

STAGES: dict[str, type[Config]] = {
    "prep": PrepConfig,
    "pretrain": RunConfig,
    "finetune": RunConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
}

COMMANDS = {"prep": "prep", "pretrain": "train", "finetune": "finetune", "evaluate": "eval", "export": "export"}
"""The `tarmac` command that runs each stage."""


def load_stage(path: str | Path, overrides: Sequence[str] = (), allowed: Sequence[str] = tuple(STAGES)) -> Config:
    """The config in a YAML file, validated as its `stage` says. Raises ConfigError, also for a stage not `allowed`."""
    values = apply_overrides(read_mapping(path), overrides)
    if "stage" not in values:
        raise ConfigError(f"{path}: stage is missing, so this is no recipe; add one of {', '.join(STAGES)}")
    stage = values["stage"]
    if stage not in STAGES:
        raise ConfigError(f"{path}: stage is {stage!r}; it must be one of {', '.join(STAGES)}")
    if stage not in allowed:
        raise ConfigError(
            f"{path}: stage is {stage!r}; this command takes {', '.join(allowed)}"
            f" (use `tarmac {COMMANDS[stage]} {path}`)"
        )
    return validate(STAGES[stage], values, str(path))
