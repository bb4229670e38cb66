"""What a run does about broken updates, spikes of the loss, ranks that hang and ranks that are slow."""

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.config.base import Config


class Spikes(Config):
    """Losses far above those of the steps before, by the robust z-score: distance from the median in deviations."""

    action: Literal["off", "warn", "rollback"] = "warn"
    """`rollback` goes back to the last checkpoint before the spike and skips the data since then."""
    window_steps: PositiveInt = 128
    """Steps whose losses are compared with; nothing is judged before there are a quarter as many."""
    threshold: PositiveFloat = 8.0
    """Robust z-score above which a loss is an outlier."""
    consecutive_steps: PositiveInt = 5
    """Outliers in a row that make a spike; fewer pass as one bad batch."""
    max_rollbacks: NonNegativeInt = 3
    """Rollbacks of a run; the spike after the last one ends it."""


class Faults(Config):
    """What a run does about broken updates, spikes of the loss, ranks that hang and ranks that are slow."""

    max_skipped_updates: PositiveInt = 10
    """Updates in a row that are skipped because loss or gradient is not finite; one more ends the run."""
    spikes: Spikes = Spikes()
    """Spikes of the loss."""
    watchdog_seconds: NonNegativeFloat = 1200.0
    """A rank that makes no progress for so long ends the job, after all ranks wrote their stacks; 0: never."""
    straggler_ratio: PositiveFloat = 1.5
    """A rank whose own part of a step takes so many times the median's is named in the log."""
