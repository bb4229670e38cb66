"""When checkpoints are written, which are kept, and where copies of them go."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pipeline.config.base import Config
from pipeline.config.places import Place

DEFAULT_STEPS = 1000
"""Steps between two checkpoints where no interval is given."""


class Checkpoints(Config):
    """When checkpoints are written, which are kept, and where copies of them go."""

    every_steps: PositiveInt | None = None
    """Steps between two checkpoints; 1,000 if no interval is given. The last step is always saved."""
    every_tokens: PositiveInt | None = None
    """Tokens between two checkpoints; of several intervals the one that is over first counts."""
    every_minutes: PositiveFloat | None = None
    """Minutes between two checkpoints."""
    keep_last: PositiveInt = 3
    """How many of the newest are kept; older ones are deleted after a newer one is committed."""
    keep_every_steps: PositiveInt | None = None
    """Checkpoints of steps that are multiples of this are never deleted."""
    keep_best: NonNegativeInt = 0
    """How many of those with the lowest `best_metric` are kept besides."""
    best_metric: str = "validation/loss"
    """A metric of `metrics.jsonl`, the lower the better; its last row up to a checkpoint's step counts."""
    asynchronous: bool = True
    """Go on training while files are written; only the copy to host memory is waited for."""
    on_error: Literal["stop", "continue"] = "stop"
    """What a checkpoint that cannot be written does to the run; the one before stays in either case."""
    upload: Place | None = None
    """URL of a folder in an object store, such as `s3://bucket/run`, that gets a copy of each checkpoint
    and of what the run's folder can be made from again."""

    @model_validator(mode="after")
    def upload_is_a_url(self) -> "Checkpoints":
        """A local folder would be no second place."""
        if self.upload is not None and "://" not in self.upload:
            raise ValueError(f"upload ({self.upload}) must be a URL such as s3://bucket/run")
        return self

    @property
    def steps(self) -> int | None:
        """Steps between two checkpoints, if steps count."""
        return self.every_steps or (None if self.every_tokens or self.every_minutes else DEFAULT_STEPS)
