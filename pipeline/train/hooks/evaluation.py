"""Loss and bits per byte on held-out data, inside the loop."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch

from pipeline.data.batch import IGNORED, MicroBatch
from pipeline.engine.checkpoint.fragments import averaged
from pipeline.engine.engine import Engine
from pipeline.runtime.logs import get_logger
from pipeline.train.loop import StepInfo
from pipeline.train.tracking.tracker import Tracker

_log = get_logger("evaluation")


class EvaluationHook:
    """Evaluates every so many steps and at the end."""

    def __init__(
        self,
        engine: Engine,
        tracker: Tracker,
        batches: Sequence[MicroBatch],
        byte_lengths: torch.Tensor,
        every: int,
        through: Callable[[Sequence[MicroBatch]], Iterable[MicroBatch]] = iter,
        name: str | None = None,
    ) -> None:
        """Set up.

        Args:
            engine: What is evaluated.
            tracker: Where rows go; only rank 0's is used.
            batches: This rank's share of the held-out sequences, the same for ranks that share rows; as many on every
                rank.
            byte_lengths: UTF-8 bytes of each token id, int64 of shape (vocabulary,).
            every: Steps between evaluations.
            through: What batches are taken through, such as a word to the watchdog before each.
            name: Of the data among others; the data's own validation split has none.
        """
        self._through, self._name = through, f"validation/{name}" if name else "validation"
        self._engine, self._tracker, self._batches, self._every = engine, tracker, batches, every
        labels = torch.cat([batch.labels[batch.labels != IGNORED] for batch in batches])
        totals = engine.group.sum(torch.tensor([len(labels), int(byte_lengths[labels].sum())]))
        self._tokens, self._bytes = (int(total) // engine.mesh.ranks_per_row for total in totals)

    def __call__(self, info: StepInfo) -> None:
        """Evaluate when it is time."""
        if info.step % self._every == 0 or info.is_last:
            self.evaluate(info.step)

    def _loss_sum(self) -> float:
        return float(self._engine.loss_sum(self._through(self._batches)))

    def evaluate(self, step: int) -> None:
        """Measure and log."""
        loss_sum = self._loss_sum()
        row = {
            f"{self._name}/loss": loss_sum / max(1, self._tokens),
            f"{self._name}/bits_per_byte": loss_sum / math.log(2) / max(1, self._bytes),
            f"{self._name}/tokens": float(self._tokens),
        }
        if self._engine.average is not None:
            with averaged(self._engine):
                row[f"{self._name}/ema_loss"] = self._loss_sum() / max(1, self._tokens)
        if self._engine.group.ranks.is_main:
            self._tracker.log(step, row)
            _log.info(
                "step %d  %s loss %.4f  bits/byte %.4f",
                step, self._name, row[f"{self._name}/loss"], row[f"{self._name}/bits_per_byte"],
            )  # fmt: skip
