"""Spikes of the loss: a few steps in a row whose loss lies far above those of the steps before.

How far is told by the robust z-score (loss - median) / (1.4826 MAD) over a window, MAD being the median distance from
the median: it is the ordinary z-score where losses are normal, and half of the window would have to be spoilt to move
it (Iglewicz and Hoaglin 1993; Leys et al. 2013). Only losses above the median count: a fall is no fault.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pipeline.config.faults import Spikes

_NORMAL = 1.4826
"""Standard deviation of a normal distribution in units of its MAD."""
_LEAST_SHARE = 0.005
"""Deviation below which none is believed, as a share of the median. Losses of full batches scatter by about as much;
where a window scatters less (a loss that does not move yet, few losses that happen to agree), every step would be far
away by a MAD of nearly 0, which is the estimate's known weakness."""
_LEAST_MEDIAN = 1.0
"""Nats; a median below it is taken as this, for losses that come close to 0."""


@dataclass(frozen=True)
class Verdict:
    """A loss far above those before."""

    step: int
    """Its step."""
    first_step: int
    """The step with which such losses began, without one in between that was not."""
    streak: int
    """How many there are by now."""
    z: float
    """Robust z-score of the loss."""
    median: float
    """Of the losses before, in nats."""
    is_spike: bool
    """Whether there are as many in a row as make a spike."""


class SpikeDetector:
    """Judges one loss after the other; what it decides depends on settings and state alone."""

    def __init__(self, settings: Spikes, window: Sequence[float] = (), streak: int = 0, first_step: int = 0) -> None:
        """Begin anew, or go on from a `state`."""
        self._settings = settings
        self._window = deque(window, maxlen=settings.window_steps)
        self._streak, self._first_step = streak, first_step

    def state(self) -> dict[str, Any]:
        """As plain values: `SpikeDetector(settings, **state)` goes on where this one stands."""
        return {"window": list(self._window), "streak": self._streak, "first_step": self._first_step}

    def restart(self) -> None:
        """Forget what came: other data begin, whose losses may have another level."""
        self._window.clear()
        self._streak = 0

    def see(self, step: int, loss: float | None) -> Verdict | None:
        """Judge the loss of a step, in nats per token; None where it is no outlier.

        A loss of None (its update was skipped as not finite) is no evidence of either: it neither enters the window nor
        ends a row of outliers. Outliers stay out of the window, or a plateau of them would soon pass as normal. But a
        spike restarts it: whoever goes on behind one goes on at the new level, and is told once.
        """
        if loss is None:
            return None
        assert math.isfinite(loss), "a loss that is not finite is seen as None"
        middle, z = self._score(loss)
        if z <= self._settings.threshold:
            self._window.append(loss)
            self._streak = 0
            return None
        self._streak += 1
        self._first_step = step if self._streak == 1 else self._first_step
        is_spike = self._streak >= self._settings.consecutive_steps
        verdict = Verdict(step, self._first_step, self._streak, z, middle, is_spike)
        if is_spike:
            self.restart()
        return verdict

    def _score(self, loss: float) -> tuple[float, float]:
        """Median of the window and robust z-score of a loss; 0 while there are too few to judge by."""
        if 4 * len(self._window) < self._settings.window_steps:
            return loss, 0.0
        middle = median(self._window)
        deviation = _NORMAL * median(abs(one - middle) for one in self._window)
        return middle, (loss - middle) / max(deviation, _LEAST_SHARE * max(abs(middle), _LEAST_MEDIAN))
