"""How often the detector of loss spikes is wrong, on curves made for it: `python -m benchmarks.spikes [CURVES]`.

A curve of 4,000 losses falls by a power law from ln(50,000) nats towards 2.2, behind a warm-up in which it stands
still, with noise that is normal, heavy-tailed (Student's t with 3 degrees of freedom), both heavy-tailed and correlated
from step to step, or stronger at times. Quiet curves tell the false alarms; into others something is put at a random
step of the second half: what should be found, and what should not.
"""

import sys
from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.config.faults import Spikes
from pipeline.train.spikes import SpikeDetector

Curve = NDArray[np.float64]
STEPS, WARM_UP, PATIENCE, BEFORE = 4000, 200, 100, 700
"""A spike is found in time if it is within `PATIENCE` steps; the detector sees `BEFORE` steps before it."""

NOISES: dict[str, Callable[[np.random.Generator], Curve]] = {
    "normal": lambda random: random.standard_normal(STEPS),
    "heavy": lambda random: random.standard_t(3, STEPS),
    "heavy, correlated": lambda random: _correlated(random.standard_t(3, STEPS), 0.7),
    "stronger at times": lambda random: (
        random.standard_normal(STEPS) * np.exp(0.5 * _correlated(random.standard_normal(STEPS), 0.99))
    ),
}

FORMS: dict[str, Callable[[Curve], Curve]] = {
    "jump, back in 30 steps": lambda n: np.exp(-n / 30),
    "rise in 10 steps, back in 100": lambda n: np.minimum(1, n / 10) * np.exp(-np.maximum(0, n - 10) / 100),
    "rise in 50 steps, for good": lambda n: np.minimum(1, n / 50),
    "rise in 2000 steps": lambda n: np.minimum(1, n / 2000),
    "one bad batch": lambda n: np.where(n < 1, 1.0, 0.0),
    "two bad batches": lambda n: np.where(n < 2, 1.0, 0.0),
}
"""By the steps since it began, as a share of its height. What is behind the first three is none to be found."""


class Found(NamedTuple):
    """What a detector said of a curve."""

    spikes: list[int]
    """Steps at which it decided on one."""
    outliers: int


def _correlated(noise: Curve, share: float) -> Curve:
    """Noise of the same deviation of which a share goes on from step to step."""
    found: Curve = np.empty(STEPS)
    last = 0.0
    for step, one in enumerate(noise * np.sqrt(1 - share**2)):
        found[step] = last = share * last + one
    return found


def quiet(random: np.random.Generator, noise: str, deviation: float) -> Curve:
    """A curve without a spike."""
    step = np.maximum(0, np.arange(STEPS) - WARM_UP)
    fall = 2.2 + (np.log(50_000) - 2.2) * (1 + step / 20) ** -0.6
    scatter = deviation * np.minimum(
        1, (1 + np.arange(STEPS)) / WARM_UP
    )  # a model that knows nothing yet hardly differs
    return fall + scatter * NOISES[noise](random)


def look(curve: Curve, settings: Spikes) -> Found:
    """Show a curve to a detector."""
    detector = SpikeDetector(settings)
    verdicts = [verdict for step, loss in enumerate(curve.tolist()) if (verdict := detector.see(step, loss))]
    return Found([one.step for one in verdicts if one.is_spike], len(verdicts))


def false_alarms(settings: Spikes, number: int) -> dict[str, tuple[float, float]]:
    """Per noise, spikes and outliers in a million steps of quiet curves."""
    told = {}
    for noise in NOISES:
        found = Counter[str]()
        for seed, deviation in product(range(number), (0.003, 0.03, 0.2)):
            one = look(quiet(np.random.default_rng(seed), noise, deviation), settings)
            found += Counter(spikes=len(one.spikes), outliers=one.outliers)
        told[noise] = (found["spikes"] / (3e-6 * number * STEPS), found["outliers"] / (3e-6 * number * STEPS))
    return told


def detections(settings: Spikes, number: int, form: str, times: float) -> tuple[float, float]:
    """Share of spikes that are found in time, and the median of steps to it; of a height in deviations of the noise."""
    delays, tried = [], 0
    for seed, noise in product(range(number), NOISES):
        random = np.random.default_rng(seed)
        curve, begin = quiet(random, noise, 0.03), int(random.integers(STEPS // 2, STEPS - PATIENCE))
        curve[begin:] += 0.03 * times * FORMS[form](np.arange(STEPS - begin, dtype=np.float64))
        found = look(curve[begin - BEFORE : begin + PATIENCE], settings).spikes
        delays += [step - BEFORE for step in found if step >= BEFORE][:1]
        tried += 1
    return len(delays) / tried, float(np.median(delays)) if delays else float("nan")


def main() -> None:
    """Print, as rows of tables, the false alarms of some settings and what the defaults find."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for values in ({}, {"threshold": 6.0}, {"consecutive_steps": 1}, {"consecutive_steps": 3}, {"window_steps": 32}):
        alarms = false_alarms(Spikes().model_copy(update=values), number)
        told = (f"{spikes:.1f} ({outliers:.0f})" for spikes, outliers in alarms.values())
        print(f"| {values or 'defaults'} | {' | '.join(told)} |", flush=True)
    for form in FORMS:
        rates = [detections(Spikes(), number, form, times) for times in (6, 8, 12, 16, 24, 50)]
        print(f"| {form} | " + " | ".join(f"{share:.0%}, {delay:.0f}" for share, delay in rates) + " |", flush=True)


if __name__ == "__main__":
    main()
