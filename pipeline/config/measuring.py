"""What a run measures beside training, and where figures go."""

from typing import Literal

from pydantic import PositiveInt

from pipeline.config.base import Config


class Evaluation(Config):
    """Evaluation inside the loop, on the data's validation split."""

    every_steps: PositiveInt = 1000
    """Steps between two evaluations; also done at the last step."""
    max_sequences: PositiveInt = 256
    """At most so many sequences."""


class Wandb(Config):
    """Weights & Biases."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """`auto`: online if a key is set in the environment, else offline."""
    project: str = "tarmac"
    """Project name."""
    group: str | None = None
    """Group name."""
    tags: tuple[str, ...] = ()
    """Tags."""


class Tracking(Config):
    """Where metrics go; `metrics.jsonl` is always written."""

    log_every_steps: PositiveInt = 10
    """Steps between two rows."""
    wandb: Wandb = Wandb()
    """Weights & Biases."""
