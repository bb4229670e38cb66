"""The loop: a generator of steps. Whatever else happens (metrics, saving, evaluation) is a hook."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch

from pipeline.data.batch import Batch
from pipeline.engine.engine import Engine
from pipeline.engine.stopwatch import Stopwatch


@dataclass(frozen=True)
class StepInfo:
    """What hooks see of a step: a small record, never the trainer."""

    step: int
    """Steps made so far, this one included, skipped updates too."""
    batch: Batch
    """This rank's part of it."""
    loss_sum: torch.Tensor
    """This rank's sum of losses in nats, on the device; where the update was skipped, it may be no number."""
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
    skipped: bool = False
    """Whether no update was made, because a loss or the gradient was not finite; the same on all ranks."""
    rescaled: bool = False
    """Whether that was only because fp16 found the scale of its loss too large: nothing is wrong."""
    own_seconds: float = 0.0
    """What this rank spent waiting for its data and in forward passes, in which up to ZeRO 2 no other has a part."""
    data_seconds: float = 0.0
    """What it spent until its batch had come, waiting for others' included."""
    hooks_seconds: float = 0.0
    """What hooks took after the step before; it is not part of `seconds`."""
    times: Stopwatch = field(default_factory=lambda: Stopwatch(torch.device("cpu")))
    """How long the parts of the step took on the device."""
    row_sums: torch.Tensor | None = None
    """Losses of each of this rank's rows, summed: fp32 of shape (R,), on the device; None where none are told apart."""


Hook = Callable[[StepInfo], None]


class StopTraining(Exception):
    """Not an error: a hook ends the run in order, on all ranks after the same step, with the exit status it names."""

    def __init__(self, reason: str, exit_code: int) -> None:
        """Say why, and with which exit status."""
        super().__init__(reason)
        self.reason, self.exit_code = reason, exit_code


def steps(
    engine: Engine,
    batches: Iterable[Batch],
    schedule: Callable[[int], float],
    is_last: Callable[[int], bool],
    waited: Callable[[], float] | None = None,
    beat: Callable[[str], None] = lambda doing: None,
) -> Iterator[StepInfo]:
    """Train on each batch in turn, up to the last of the run, and say what happened.

    Args:
        engine: What is trained.
        batches: This rank's part of each step.
        schedule: Learning rate of a step as a share of its peak.
        is_last: Whether the run ends once so many steps are made.
        waited: Seconds that this rank alone waited for the last batch; by default all until it came.
        beat: Told what begins now.
    """
    beat("waiting for the first batch")
    start, hooks_seconds = time.perf_counter(), 0.0
    for batch in batches:
        until_batch = time.perf_counter() - start
        beat(f"step {batch.step + 1}: training")
        share = schedule(batch.step)
        outcome = engine.train_step(batch, share)
        now = time.perf_counter()
        made = batch.step + 1
        beat(f"step {made}: hooks")
        yield StepInfo(
            step=made,
            batch=batch,
            loss_sum=outcome.loss_sum,
            num_tokens=outcome.num_tokens,
            digest=outcome.digest,
            learning_rate_share=share,
            seconds=now - start,
            is_last=is_last(made),
            skipped=outcome.skipped,
            rescaled=outcome.rescaled,
            own_seconds=(waited() if waited else until_batch) + outcome.times.seconds("forward"),
            data_seconds=until_batch,
            hooks_seconds=hooks_seconds,
            times=outcome.times,
            row_sums=outcome.row_sums,
        )
        if is_last(made):
            return
        beat(f"step {made + 1}: waiting for data")
        start = time.perf_counter()
        hooks_seconds = start - now


def run(infos: Iterable[StepInfo], hooks: Iterable[Hook]) -> None:
    """Drain the steps, showing each to every hook in order."""
    hooks = tuple(hooks)
    for info in infos:
        for hook in hooks:
            hook(info)
