"""How fast a node and its neighbours add up together."""

import time
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist

_BYTES = {"cpu": 1 << 22, "cuda": 1 << 28}
_REPEATS = 5


def neighbour_bandwidth(hosts: Sequence[str], rank: int, device: torch.device) -> float | None:
    """Bytes/s of an all-reduce with the next node and with the one before, whichever is better; None on one node.

    A node that is slow makes its neighbours slow, but only one of their two measures. The bandwidth is that of the
    bus, 2 (n - 1) / n times the bytes by the time, as NCCL's tests count it. All ranks of the default group call it.

    Args:
        hosts: Each rank's node.
        rank: This one.
        device: Where the tensor lies.
    """
    measured = []
    for nodes in rounds(list(dict.fromkeys(hosts))):
        ranks = [one for one, host in enumerate(hosts) if host in nodes[hosts[rank]]]
        group = dist.new_group(ranks, use_local_synchronization=True)
        dist.barrier()
        if len(nodes[hosts[rank]]) > 1:
            measured.append(_bus_bandwidth(group, len(ranks), device))
    return max(measured) if measured else None


def rounds(nodes: Sequence[str]) -> Iterator[dict[str, tuple[str, ...]]]:
    """Two ways to pair nodes with their neighbours: who is with whom. One way where there are two, none for one."""
    for first in range(min(2, len(nodes) - 1)):
        pairs = [tuple(nodes[:1]) if first else (), *(tuple(nodes[at : at + 2]) for at in range(first, len(nodes), 2))]
        yield {node: pair for pair in pairs for node in pair}


def _bus_bandwidth(group: dist.ProcessGroup, size: int, device: torch.device) -> float:
    values = torch.ones(_BYTES[device.type] // 4, device=device)
    seconds = []
    for _ in range(_REPEATS + 1):  # the first one connects
        begin = time.perf_counter()
        dist.all_reduce(values, group=group)
        float(values[0])  # waits for the device
        seconds.append(time.perf_counter() - begin)
    return 2 * (size - 1) / size * values.nbytes / min(seconds[1:])
