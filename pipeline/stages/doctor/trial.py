"""Two real steps of a run, on one rank and of no text, compared with what is foretold of them."""

import gc
import time
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import PretrainedConfig

from pipeline.config.run import RunConfig
from pipeline.data.batch import Batch
from pipeline.engine.checkpoint.fragments import prepare
from pipeline.engine.engine import Engine
from pipeline.engine.filling import fill
from pipeline.engine.memory import MemoryEstimate, estimate_model, without_offloaded
from pipeline.engine.out_of_memory import largest_batch
from pipeline.engine.partition import partitioned
from pipeline.engine.process_group import ProcessGroup
from pipeline.models.initialization import initial_weights
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.stages.building import assemble
from pipeline.stages.doctor.checkpoints import Row
from pipeline.stages.doctor.memory import passes_of


def trial_rows(config: RunConfig, form: PretrainedConfig, vocab_size: int) -> list[Row]:
    """Train two steps, and say what memory they took and how fast the second was."""
    with ProcessGroup(ranks_from_environment(), config.engine.timeout_seconds) as group:
        foretold, measured, seconds = compared(config, form, vocab_size, group)
    tokens = sum(one.labels.numel() for one in largest_batch(config, 1).micro_batches)
    return [
        ("tried", f"{measured / 1e9:,.3f} GB", f"on one rank; {foretold / 1e9:,.3f} foretold"
         f" ({100 * (foretold / measured - 1):+.1f} %)"),
        ("tried", f"{tokens / seconds:,.0f} tokens/s", "in the second step, on one rank"),
    ]  # fmt: skip


def compared(config: RunConfig, form: PretrainedConfig, vocab_size: int, group: ProcessGroup) -> tuple[int, int, float]:
    """Bytes that a step of one rank is foretold to take, those it takes, and its seconds."""
    batch = largest_batch(config, 1)
    passes = passes_of(config, form, vocab_size, 1, group.device)
    measured, seconds, estimate = _measured(config, form, vocab_size, batch, group)
    return estimate.most(passes, len(batch.micro_batches)), measured, seconds


def _measured(
    config: RunConfig, form: PretrainedConfig, vocab_size: int, batch: Batch, group: ProcessGroup
) -> tuple[int, float, MemoryEstimate]:
    """Most bytes of tensors, seconds of the second step, and what was estimated to last."""
    source = partial(initial_weights, seed=config.seed)
    with _Peak(group.device) as peak:
        with partitioned(config, group):
            objective, weights = assemble(config, form, vocab_size, group.device, source)
        whole = estimate_model(config, objective.model, 1)
        estimate = without_offloaded(whole, config, group.device.type == "cuda")
        engine = Engine(objective, config, group)
        fill(engine, weights)
        prepare(engine)
        engine.train_step(batch, 0.0)  # which compiles
        start = time.perf_counter()
        engine.train_step(batch, 0.0)
        seconds = time.perf_counter() - start
    engine.close()
    return peak.bytes, seconds, estimate


class _Peak:
    """Most bytes of tensors alive within it: on a CPU as its allocator tells, which resident memory would blur."""

    bytes = 0

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True)

    def __enter__(self) -> "_Peak":
        gc.collect()  # what is freed within it must have been made within it
        if self._is_cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            self._profile.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_cuda:
            self.bytes = torch.cuda.max_memory_allocated()
            return
        self._profile.__exit__(*error)
        events = self._profile.profiler.kineto_results.events()
        changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
        now = 0
        for _, change in changes:
            now += change
            self.bytes = max(self.bytes, now)
