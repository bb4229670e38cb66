"""The config of an export."""

from typing import Literal

from pydantic import PositiveInt

from pipeline.config.base import Config


class ExportConfig(Config):
    """A run's checkpoint as a Hugging Face folder: safetensors, config and tokenizer."""

    stage: Literal["export"]
    """Export."""
    run: str
    """The run folder."""
    step: PositiveInt | None = None
    """Which checkpoint; the newest good one if not given."""
    average: PositiveInt = 1
    """The mean of the weights of so many checkpoints, that one and those before it (arXiv:1803.05407)."""
    ema: bool = False
    """The average of its weights that the run kept (`ema.decay`), instead of the weights."""
    output: str
    """The folder to write; it must not exist."""
    dtype: Literal["bf16", "fp32"] = "bf16"
    """Type of the written weights."""
