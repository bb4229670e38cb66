"""How fast a node and its neighbours add up together."""

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

from pipeline.stages.health.meeting import Meeting

_BYTES = {"cpu": 1 << 22, "cuda": 1 << 28}
_REPEATS = 5


def neighbour_bandwidths(meeting: Meeting, hosts: Sequence[str], device: torch.device) -> dict[str, float | None]:
    """Bytes/s of an all-reduce with each neighbouring node, by its name; None with one with which it failed.

    The bandwidth is that of the bus, 2 (n - 1) / n times the bytes by the time, as NCCL's tests count it. Each pair of
    nodes is a job of its own, so that one that fails fails alone. All ranks call it.

    Args:
        meeting: Where ranks of a pair find each other.
        hosts: Each rank's node.
        device: Where the tensor lies.
    """
    mine, found = hosts[meeting.ranks.rank], {}
    seconds = (
        meeting.seconds / 4
    )  # to meet and to reduce, in two rounds: all are through in what ranks wait for each other
    for number, pairs in enumerate(rounds(list(dict.fromkeys(hosts)))):
        ranks = [rank for rank, host in enumerate(hosts) if host in pairs[mine]]
        others = [host for host in pairs[mine] if host != mine]
        for other in others:
            store = dist.PrefixStore(f"reduce {number} of {ranks[0]}", meeting.store)
            try:
                found[other] = _together(store, ranks.index(meeting.ranks.rank), len(ranks), device, seconds)
            except RuntimeError:
                found[other] = None
    return found


def rounds(nodes: Sequence[str]) -> Iterator[dict[str, tuple[str, ...]]]:
    """Two ways to pair nodes with their neighbours: who is with whom. One way where there are two, none for one."""
    for first in range(min(2, len(nodes) - 1)):
        pairs = [tuple(nodes[:first]), *(tuple(nodes[at : at + 2]) for at in range(first, len(nodes), 2))]
        yield {node: pair for pair in pairs for node in pair}


def _together(store: dist.Store, rank: int, size: int, device: torch.device, seconds: float) -> float:
    """Make the ranks of a pair a job, and measure."""
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", store=store, rank=rank, world_size=size,
        device_id=device if device.type == "cuda" else None, timeout=timedelta(seconds=seconds),
    )  # fmt: skip
    try:
        return _bus_bandwidth(size, device)
    finally:
        dist.destroy_process_group()


def _bus_bandwidth(size: int, device: torch.device) -> float:
    values = torch.ones(_BYTES[device.type] // 4, device=device)
    seconds = []
    for _ in range(_REPEATS + 1):  # the first one connects
        begin = time.perf_counter()
        dist.all_reduce(values)
        float(values[0])  # waits for the device
        seconds.append(time.perf_counter() - begin)
    return 2 * (size - 1) / size * values.nbytes / min(seconds[1:])
