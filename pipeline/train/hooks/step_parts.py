"""What the time of steps goes to, between two rows of metrics."""

from collections.abc import Sequence

from pipeline.engine.stopwatch import PARTS
from pipeline.train.loop import StepInfo

NAMES = ("data", *PARTS, "hooks")
"""Parts of a step's time, in the order of `StepParts.seconds`. Hooks come between steps."""


class StepParts:
    """Adds up this rank's. A step is read when the next one has come: by then the device has passed it."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._seconds = dict.fromkeys(NAMES, 0.0)
        self._unread: StepInfo | None = None

    def add(self, info: StepInfo) -> None:
        """Take a step."""
        self._read()
        self._unread = info

    def seconds(self) -> list[float]:
        """Of all steps; it waits for the last one's end."""
        self._read()
        return list(self._seconds.values())

    def _read(self) -> None:
        if self._unread is not None:
            self._seconds["data"] += self._unread.data_seconds
            self._seconds["hooks"] += self._unread.hooks_seconds
            for part in PARTS:
                self._seconds[part] += self._unread.times.seconds(part)
        self._unread = None


def step_figures(seconds: Sequence[float], step_seconds: float) -> dict[str, float]:
    """Seconds of a step's parts as figures, and which share of the step is in none of them.

    Args:
        seconds: Of each part of `NAMES`, of one step.
        step_seconds: What the step took, without hooks.
    """
    parts = dict(zip(NAMES, seconds, strict=True))
    inside = parts["data"] + parts["forward"] + parts["backward"] + parts["optimizer"]
    parts["backward"] -= parts["communication"]
    figures = {f"perf/{name}_seconds": value for name, value in parts.items()}
    return {**figures, "perf/other_share": 1 - inside / step_seconds}
