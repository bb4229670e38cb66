"""The learning rate as a share of its peak."""

import math
from collections.abc import Callable

from pipeline.config.optimization import Schedule


def learning_rate_share(
    schedule: Schedule, step: int, num_steps: int, seen: Callable[[int], int] = lambda step: step
) -> float:
    """Share of the peak for the update that follows `step` earlier ones, of `num_steps` in all.

    Args:
        schedule: Its form.
        step: Updates made.
        num_steps: Updates of the whole run.
        seen: What the way from warm-up to end is measured by: the steps before a step, or the tokens. By tokens, a
            batch that grows leaves the rate where it is.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    begin = seen(schedule.warmup_steps)
    progress = (seen(step) - begin) / max(1, seen(num_steps) - begin)
    return schedule.final_share + (1.0 - schedule.final_share) * _height(schedule, min(1.0, progress))


def _height(schedule: Schedule, progress: float) -> float:
    """1 at the peak, 0 at the end."""
    match schedule.type:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        case "wsd":
            return min(1.0, (1.0 - progress) / schedule.decay_share) if schedule.decay_share else 1.0
