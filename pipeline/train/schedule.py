"""The learning rate as a share of its peak."""

import math
from bisect import bisect_left
from collections.abc import Callable

from pipeline.config.optimization import Schedule

_DECAY_SHARE = 0.2


def learning_rate_share(
    schedule: Schedule,
    step: int,
    num_steps: int,
    tokens_at: Callable[[int], int] = lambda step: step,
    *,
    by_tokens: bool = False,
) -> float:
    """Share of the peak for the update that follows `step` earlier ones, of `num_steps` in all.

    Args:
        schedule: Its form.
        step: Updates made.
        num_steps: Updates of the whole run.
        tokens_at: Tokens seen before a step.
        by_tokens: Whether the way from warm-up to end is measured by tokens, else by steps. By tokens, a batch that
            grows leaves the rate where it is.
    """
    if (risen := _risen(schedule, step, tokens_at)) <= 1.0:
        return risen
    seen = tokens_at if by_tokens else _steps
    now, begin, end = seen(step), seen(_warmup_steps(schedule, num_steps, tokens_at)), seen(num_steps)
    if schedule.type == "inverse_sqrt":
        return max(schedule.final_share, math.sqrt(begin / max(begin, now)))
    if schedule.type == "wsd":
        begin = max(begin, _decay_begin(schedule, begin, num_steps, seen))
    way = (now - begin) / (end - begin) if end > begin else 0.0
    return schedule.final_share + (1.0 - schedule.final_share) * _height(schedule, min(1.0, max(0.0, way)))


def _steps(step: int) -> int:
    return step


def _risen(schedule: Schedule, step: int, tokens_at: Callable[[int], int]) -> float:
    """How far warm-up is with the update that follows; above 1 behind it."""
    if schedule.warmup_tokens is not None:
        return tokens_at(step + 1) / schedule.warmup_tokens
    return (step + 1) / schedule.warmup_steps if schedule.warmup_steps else math.inf


def _warmup_steps(schedule: Schedule, num_steps: int, tokens_at: Callable[[int], int]) -> int:
    """Updates that warm-up takes."""
    if schedule.warmup_tokens is None:
        return schedule.warmup_steps
    return bisect_left(range(num_steps), schedule.warmup_tokens, key=tokens_at)


def _decay_begin(schedule: Schedule, begin: int, num_steps: int, seen: Callable[[int], int]) -> float:
    """Where `wsd` leaves the peak, in the measure of `seen`."""
    if schedule.decay_start is not None:
        return seen(min(schedule.decay_start, num_steps))
    if schedule.decay_steps is not None:
        return seen(max(0, num_steps - schedule.decay_steps))
    share = _DECAY_SHARE if schedule.decay_share is None else schedule.decay_share
    return seen(num_steps) - share * (seen(num_steps) - begin)


def _height(schedule: Schedule, way: float) -> float:
    """1 where it leaves the peak, 0 at the end."""
    match schedule.type:
        case "linear":
            return 1.0 - way
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * way))
        case "wsd":
            return 1.0 - (math.sqrt(way) if schedule.decay_form == "sqrt" else way)
    return 1.0
