"""Out of memory: found before data are consumed, where it can be, and told in one sentence that says what to change."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from pipeline.config.data import CorpusData
from pipeline.config.run import RunConfig
from pipeline.data.batch import Batch, MicroBatch
from pipeline.data.loader import Share
from pipeline.engine.memory import estimate_memory, without_offloaded
from pipeline.engine.process_group import ProcessGroup
from pipeline.errors import MemoryShortError

_WORDS = ("out of memory", "DefaultCPUAllocator", "bad_alloc", "Cannot allocate memory")
"""What is in a RuntimeError where the device (NCCL takes some, too) or the host gives no memory."""
_ASKED = re.compile(r"tried to allocate ([\d.]+ \w+)", re.IGNORECASE)


def largest_batch(config: RunConfig, world_size: int) -> Batch:
    """What no batch of a run takes more memory than: its longest sequences, each position scored, full micro batches.

    There are two of these if a step ever has several: the second finds the gradients of the first.
    """
    shares = [Share(0, world_size, config.batch.micro_size).num_micro_batches(one.global_size)
              for one in config.stretches]  # fmt: skip
    length = max(one.sequence_length for one in config.stretches)
    tokens = torch.zeros((config.batch.micro_size, length), dtype=torch.int64)
    halves = (torch.arange(length) % -(-length // 2)).expand_as(tokens).contiguous()
    micro_batch = MicroBatch(tokens, tokens, halves if _keeps_apart(config) else None)
    return Batch(0, (micro_batch,) * min(2, max(shares)))


def _keeps_apart(config: RunConfig) -> bool:
    """Whether a row may ever hold pieces of text that must not see each other."""
    data = config.data
    if not isinstance(data, CorpusData):
        return False
    is_masked = config.objective.type == "masked"  # what fills a row up is kept apart
    is_cut_anew = any(one.sequence_length is not None for one in data.phases)
    keeps_apart = any(one.mask_documents or one.packing == "best_fit" for one in (data, *data.phases))
    return is_masked or is_cut_anew or keeps_apart


def require_host_memory(config: RunConfig, num_parameters: int, group: ProcessGroup) -> None:
    """Refuse a run whose weights, gradients and optimizer alone are more than this host has free, swap included.

    A rehearsal would not help on a host: its kernel kills what takes too much. All ranks call it; none raises alone.

    Raises:
        MemoryShortError: On all ranks.
    """
    estimate = without_offloaded(estimate_memory(config, num_parameters, group.ranks.world_size), config, is_gpu=False)
    made = 4 * num_parameters if config.engine.zero_stage < 3 else 0  # in fp32 on each rank, before they are shared
    needed = max(estimate.total, made)
    here = group.gather(socket.gethostname()).count(socket.gethostname())
    free = psutil.virtual_memory().available + psutil.swap_memory().free

    def require() -> None:
        if here * needed > free:
            raise MemoryShortError(
                f"{num_parameters:,} parameters with gradients and optimizer take {here * needed / 2**30:.1f} GiB for"
                f" {here} rank(s) on host {socket.gethostname()}, which has {free / 2**30:.1f} GiB left;"
                f" {_cures(config, group.ranks.world_size, by_activations=False)}"
            )

    group.agree(require)


@contextmanager
def out_of_memory_told(config: RunConfig, group: ProcessGroup) -> Iterator[None]:
    """Turn a failed allocation, on GPU or host, into MemoryShortError. It is this rank's alone: others may wait."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        is_short = isinstance(error, torch.OutOfMemoryError | MemoryError) or any(one in str(error) for one in _WORDS)
        if not is_short:
            raise
        asked = _ASKED.search(str(error))
        words = f" (it asked for {asked[1]} more)" if asked else ""
        raise MemoryShortError(
            f"rank {group.ranks.rank} is out of memory on {group.device}{words};"
            f" {_cures(config, group.ranks.world_size)}; the same command goes on from the last checkpoint"
        ) from error


def _cures(config: RunConfig, world_size: int, by_activations: bool = True) -> str:
    """What of a config to change, the cheapest first."""
    engine, found = config.engine, []
    if by_activations and config.batch.micro_size > 1:
        found.append(f"lower batch.micro_size ({config.batch.micro_size})")
    if by_activations and engine.recompute == "none":
        found.append("set engine.recompute to selective or full")
    elif by_activations and engine.recompute == "selective":
        found.append("set engine.recompute to full")
    if world_size > 1 and engine.zero_stage < (2 if engine.tensor_parallel > 1 else 3):
        found.append(f"raise engine.zero_stage ({engine.zero_stage})")
    if engine.zero_stage > 0 and engine.offload.optimizer == "none" and torch.cuda.is_available():
        found.append("set engine.offload.optimizer to cpu")
    return ", or ".join([*found, "use a smaller model, shorter sequences or more ranks"])
