"""Loss, learning rate, throughput: gathered over a few steps, then one row."""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from pipeline.engine.engine import Engine
from pipeline.engine.memory import peak_memory_bytes
from pipeline.errors import DivergenceError
from pipeline.runtime.logs import get_logger
from pipeline.train.loop import StepInfo
from pipeline.train.tracking.tracker import Tracker

_log = get_logger("train")


@dataclass(frozen=True)
class Totals:
    """What the next row is made of, over all ranks; a checkpoint carries it, so that a resumed run logs the same."""

    tokens_seen: int = 0
    """Valid tokens up to the last row."""
    loss_sum: float = 0.0
    """Losses in nats since then."""
    num_tokens: int = 0
    """Valid tokens since then."""
    room: int = 0
    """Positions that sequences had since then, those of padding included."""


class MetricsHook:
    """Logs a row every so many steps. Nothing waits for the device in between."""

    def __init__(
        self,
        engine: Engine,
        tracker: Tracker,
        every: int,
        totals: Totals,
        tokens_by_length: Callable[[int], Counter[int]],
        flops: Callable[[int], float],
        peak: float,
    ) -> None:
        """Set up.

        Args:
            engine: For the gradient norm and the sum over ranks.
            tracker: Where rows go; only rank 0's is used.
            every: Steps between rows.
            totals: What was gathered before the first step of this session.
            tokens_by_length: Of a step, the tokens that sequences of each length before it have room for; throughput
                counts padding, too, and utilisation is the share that is none of it: positions that predict something.
            flops: Floating-point operations of a token of a sequence of some length.
            peak: Such operations that all devices could make in a second.
        """
        self._engine, self._tracker, self._every = engine, tracker, every
        self._tokens_by_length, self._flops, self._peak = tokens_by_length, flops, peak
        self._reset(totals)

    def _reset(self, totals: Totals) -> None:
        self._totals = totals
        self._loss_sum: torch.Tensor | None = None
        self._tokens: torch.Tensor | None = None
        self._last: StepInfo | None = None
        self._seconds = 0.0
        self._steps = 0

    def __call__(self, info: StepInfo) -> None:
        """Add the step; log when it is time."""
        loss_sum = info.loss_sum.double()  # in fp64 the sum is exact, wherever an interruption divides it
        self._loss_sum = loss_sum if self._loss_sum is None else self._loss_sum + loss_sum
        self._tokens = info.num_tokens if self._tokens is None else self._tokens + info.num_tokens
        self._steps += 1
        self._last = info
        self._seconds += info.seconds
        if info.step % self._every == 0 or info.is_last:
            self.flush()

    def totals(self) -> Totals:
        """What the next row is made of so far; all ranks call it, and wait for the device.

        Raises:
            DivergenceError: A loss since the last row is not a number; on all ranks.
        """
        if self._loss_sum is None or self._tokens is None or self._last is None:
            return self._totals
        loss_sum = self._totals.loss_sum + float(self._engine.group.sum(self._loss_sum.reshape(1)))
        if not math.isfinite(loss_sum):
            raise DivergenceError(
                f"the loss is not finite at step {self._last.step}; lower optimizer.lr and give the same command to go"
                " on from the last checkpoint, or look at the data with `tarmac explain`"
            )
        num_tokens, room = self._totals.num_tokens + int(self._tokens), self._totals.room + self._room().total()
        return replace(self._totals, loss_sum=loss_sum, num_tokens=num_tokens, room=room)

    def _room(self) -> Counter[int]:
        """Positions of this session's steps since the last row, by the length of their sequences."""
        assert self._last is not None
        step = self._last.step
        return self._tokens_by_length(step) - self._tokens_by_length(step - self._steps)

    def flush(self) -> None:
        """Write the row of the steps since the last one."""
        info = self._last
        if info is None:
            return
        waited = time.perf_counter()
        totals = self.totals()
        self._seconds += time.perf_counter() - waited  # what the device still had to do
        tokens_seen, room = totals.tokens_seen + totals.num_tokens, self._room()
        rate = room.total() / self._seconds
        flops = sum(number * self._flops(length) for length, number in room.items())
        norm = f"{self._engine.norm_name}_norm"
        row = {
            "train/loss": totals.loss_sum / max(1, totals.num_tokens),
            "train/learning_rate": self._engine.learning_rate(),
            f"train/{norm}": self._engine.norm(),
            "train/tokens": float(tokens_seen),
            "train/utilisation": totals.num_tokens / totals.room,
            "perf/tokens_per_second": rate,
            "perf/mfu": flops / self._seconds / self._peak,
            "perf/step_seconds": self._seconds / self._steps,
            "perf/memory_bytes": float(peak_memory_bytes()),
        }
        if self._engine.group.ranks.is_main:
            self._tracker.log(info.step, row)
            _log.info(
                "step %d  loss %.4f  lr %.2e  %s %.3f  %s tok/s  MFU %.1f %%",
                info.step, row["train/loss"], row["train/learning_rate"], norm, row[f"train/{norm}"],
                f"{rate:,.0f}", 100 * row["perf/mfu"],
            )  # fmt: skip
        self._reset(Totals(tokens_seen))
