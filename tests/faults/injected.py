"""Faults that the test puts into a rank before it trains; the product knows nothing of them."""

import os
import resource
import time
from collections.abc import Sequence
from typing import Any

import psutil
import torch

from pipeline.cli import main
from pipeline.data.batch import IGNORED, Batch
from pipeline.data.loader import Loader
from pipeline.engine.engine import Engine


def noisy(words: Sequence[str], first_sample: int, last_sample: int) -> int:
    """Train on data of which samples [first, last) are nonsense: labels that nothing tells."""
    batch_of = Loader.batch

    def batch(self: Loader, step: int) -> Batch:
        made = batch_of(self, step)
        if first_sample <= self._order.batch(step)[0].number < last_sample:
            generator = torch.Generator().manual_seed(step)
            for micro_batch in made.micro_batches:
                noise = torch.randint(400, micro_batch.labels.shape, generator=generator)
                micro_batch.labels.copy_(noise.where(micro_batch.labels != IGNORED, micro_batch.labels))
        return made

    Loader.batch = batch  # type: ignore[method-assign]
    return main(words)


def stuck(words: Sequence[str], rank: int, step: int) -> int:
    """Train, and at a step let one rank sleep for ever."""
    train_step = Engine.train_step

    def sleeping(self: Engine, batch: Batch, share: float) -> Any:
        if batch.step + 1 == step and os.environ["RANK"] == str(rank):
            time.sleep(600)
        return train_step(self, batch, share)

    Engine.train_step = sleeping  # type: ignore[method-assign]
    return main(words)


def cramped(words: Sequence[str], more_bytes: int) -> int:
    """Train, and from the first step on let the address space grow by so much only."""
    train_step = Engine.train_step

    def limited(self: Engine, batch: Batch, share: float) -> Any:
        most = psutil.Process().memory_info().vms + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        return train_step(self, batch, share)

    Engine.train_step = limited  # type: ignore[method-assign]
    return main(words)
