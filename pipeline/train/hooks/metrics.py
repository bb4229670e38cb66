"""Loss, learning rate, throughput: gathered over a few steps, then one row."""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from pipeline.engine.engine import Engine
from pipeline.engine.memory import peak_memory_bytes
from pipeline.train.hooks.by_source import LossBySource, added
from pipeline.train.hooks.step_parts import StepParts, step_figures
from pipeline.train.loop import StepInfo
from pipeline.train.tracking.tracker import Tracker


@dataclass(frozen=True)
class Totals:
    """What the next row is made of, over all ranks; a checkpoint carries it, so that a resumed run logs the same.

    Where an update was skipped, its losses, tokens and positions do not count: nothing was learned from them.
    """

    tokens_seen: int = 0
    """Valid tokens trained on up to the last row."""
    loss_sum: float = 0.0
    """Losses in nats since then."""
    num_tokens: int = 0
    """Valid tokens since then."""
    room: int = 0
    """Positions that sequences had since then, those of padding included."""
    skipped_updates: int = 0
    """Updates of the whole run that were skipped, because a loss or the gradient was not finite."""
    skipped_in_a_row: int = 0
    """How many of them no update was made after; those by which the loss scale of fp16 fell are left out."""
    loss_by_source: dict[str, float] = field(default_factory=dict)
    """Losses in nats since the last row, by source; none where rows are not told apart."""
    tokens_by_source: dict[str, float] = field(default_factory=dict)
    """Valid tokens since then, by source."""


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
        squared_norm: Callable[[], torch.Tensor],
        sources: Sequence[str] = (),
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
            squared_norm: Sum of the squares of this rank's part of the weights, a scalar.
            sources: Names of the sources by their numbers in batches; none if there is nothing to tell apart.
        """
        self._engine, self._tracker, self._every = engine, tracker, every
        self._tokens_by_length, self._flops, self._peak = tokens_by_length, flops, peak
        self._squared_norm, self._sources = squared_norm, tuple(sources)
        self._reset(totals)

    def _reset(self, totals: Totals) -> None:
        self._totals = totals
        self._loss_sum: torch.Tensor | None = None
        self._tokens: torch.Tensor | None = None
        self._by_source, self._parts = LossBySource(self._sources), StepParts()
        self._last: StepInfo | None = None
        self._seconds = 0.0
        self._steps = 0

    @property
    def skipped_in_a_row(self) -> int:
        """Updates skipped since the last one that was made, also if that was before a restart."""
        return self._totals.skipped_in_a_row

    def __call__(self, info: StepInfo) -> None:
        """Add the step; log when it is time."""
        if info.skipped:
            skipped, row = self._totals.skipped_updates + 1, self._totals.skipped_in_a_row + (not info.rescaled)
            self._totals = replace(self._totals, skipped_updates=skipped, skipped_in_a_row=row)
        else:
            self._add(info)
        self._parts.add(info)
        self._steps += 1
        self._last = info
        self._seconds += info.seconds
        if info.step % self._every == 0 or info.is_last:
            self.flush()

    def _add(self, info: StepInfo) -> None:
        loss_sum = info.loss_sum.double()  # in fp64 the sum is exact, wherever an interruption divides it
        self._loss_sum = loss_sum if self._loss_sum is None else self._loss_sum + loss_sum
        self._tokens = info.num_tokens if self._tokens is None else self._tokens + info.num_tokens
        if self._sources:
            self._by_source.add(info)
        room = self._totals.room + self._room(info.step, 1).total()
        self._totals = replace(self._totals, room=room, skipped_in_a_row=0)

    def totals(self) -> Totals:
        """What the next row is made of so far; all ranks call it, and wait for the device."""
        if self._loss_sum is None or self._tokens is None:
            return self._totals
        was, mine = self._totals, self._by_source.sums().cpu()
        sums = self._engine.group.sum(torch.cat([self._loss_sum.cpu().reshape(1), mine.reshape(-1)])).tolist()
        losses = sums[1 : 1 + len(self._sources)]
        tokens = [number / self._engine.mesh.ranks_per_row for number in sums[1 + len(self._sources) :]]
        return replace(
            was,
            loss_sum=was.loss_sum + sums[0],
            num_tokens=was.num_tokens + int(self._tokens),
            loss_by_source=added(was.loss_by_source, self._sources, losses),
            tokens_by_source=added(was.tokens_by_source, self._sources, tokens),
        )

    def _room(self, step: int, number: int) -> Counter[int]:
        """Positions of so many steps up to one, by the length of their sequences."""
        return self._tokens_by_length(step) - self._tokens_by_length(step - number)

    def flush(self) -> None:
        """Write the row of the steps since the last one."""
        info = self._last
        if info is None:
            return
        waited = time.perf_counter()
        totals = self.totals()
        self._seconds += time.perf_counter() - waited  # what the device still had to do
        tokens_seen = totals.tokens_seen + totals.num_tokens
        learned, performance = self._learned(totals), self._performance(info.step)
        if self._engine.group.ranks.is_main:
            self._tracker.log(info.step, {**learned, "train/tokens": float(tokens_seen), **performance})
        self._reset(replace(totals, tokens_seen=tokens_seen, loss_sum=0.0, num_tokens=0, room=0,
                            loss_by_source={}, tokens_by_source={}))  # fmt: skip

    def _learned(self, totals: Totals) -> dict[str, float | None]:
        """Where no update was made, there is no loss; of the norm, only the last step counts."""
        tokens = totals.tokens_by_source
        return {
            "train/loss": totals.loss_sum / totals.num_tokens if totals.num_tokens else None,
            **{f"train/loss/{name}": totals.loss_by_source[name] / tokens[name] for name in tokens if tokens[name]},
            "train/learning_rate": self._engine.learning_rate(),
            f"train/{self._engine.norm_name}_norm": self._engine.norm(),
            "train/utilisation": totals.num_tokens / totals.room if totals.room else None,
            "train/skipped_updates": float(totals.skipped_updates),
        }

    def _performance(self, step: int) -> dict[str, float]:
        """Of this session's steps; those whose update was skipped took as long. All ranks call it."""
        group, room = self._engine.group, self._room(step, self._steps)
        flops = sum(number * self._flops(length) for length, number in room.items())
        mine = torch.tensor(self._parts.seconds(), dtype=torch.float64) / self._steps / group.ranks.world_size
        *parts, squares = group.sum(torch.cat([mine, self._squared_norm().double().cpu().reshape(1)])).tolist()
        return {
            "perf/tokens_per_second": room.total() / self._seconds,
            "perf/mfu": flops / self._seconds / self._peak,
            "perf/step_seconds": self._seconds / self._steps,
            **step_figures(parts, self._seconds / self._steps),
            **{f"perf/{name}_bytes": float(group.max(used)) for name, used in peak_memory_bytes().items()},
            "train/parameter_norm": math.sqrt(squares),
        }
