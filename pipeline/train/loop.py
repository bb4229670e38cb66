"""The loop: a generator of steps. Whatever else happens (metrics, saving, evaluation) is a hook."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from pipeline.data.batch import Batch
from pipeline.engine.engine import Engine


@dataclass(frozen=True)
class StepInfo:
    """What hooks see of a step: a small record, never the trainer."""

    step: int
    """Updates made so far, this one included."""
    batch: Batch
    """This rank's part of it."""
    loss_sum: torch.Tensor
    """This rank's sum of losses in nats, on the device."""
    num_tokens: torch.Tensor
    """Valid tokens of all ranks, on the device."""
    digest: str
    """xxh3 of the tensors this rank passed to forward."""
    learning_rate_share: float
    """Learning rate as a share of its peak."""
    seconds: float
    """Wall time of the step on this rank, waiting for data included."""
    is_last: bool
    """Whether the run ends here."""


Hook = Callable[[StepInfo], None]


class StopTraining(Exception):
    """Not an error: a hook ends the run in order, on all ranks after the same step, with the exit status it names."""

    def __init__(self, reason: str, exit_code: int) -> None:
        """Say why, and with which exit status."""
        super().__init__(reason)
        self.reason, self.exit_code = reason, exit_code


def steps(
    engine: Engine, batches: Iterable[Batch], schedule: Callable[[int], float], is_last: Callable[[int], bool]
) -> Iterator[StepInfo]:
    """Train on each batch in turn, up to the last of the run, and say what happened."""
    start = time.perf_counter()
    for batch in batches:
        share = schedule(batch.step)
        outcome = engine.train_step(batch, share)
        now = time.perf_counter()
        made = batch.step + 1
        yield StepInfo(
            step=made,
            batch=batch,
            loss_sum=outcome.loss_sum,
            num_tokens=outcome.num_tokens,
            digest=outcome.digest,
            learning_rate_share=share,
            seconds=now - start,
            is_last=is_last(made),
        )
        if is_last(made):
            return
        start = time.perf_counter()


def run(infos: Iterable[StepInfo], hooks: Iterable[Hook]) -> None:
    """Drain the steps, showing each to every hook in order."""
    hooks = tuple(hooks)
    for info in infos:
        for hook in hooks:
            hook(info)
