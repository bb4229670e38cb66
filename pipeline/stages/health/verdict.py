"""Which nodes are not fit, by what all ranks measured."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from pipeline.config.cluster import HealthCheck
from pipeline.stages.health.measures import Measures

Faults = Mapping[str, Sequence[str]]
"""What is wrong with each node that is not fit."""


def blames_the_job(faults: Faults, hosts: Sequence[str]) -> bool:
    """Whether most of several nodes are not fit: then it is not the nodes, and without them there is no job."""
    return len(set(hosts)) > 1 and 2 * len(faults) > len(set(hosts))


def faults_by_host(measures: Sequence[Measures], silent: Faults, limits: HealthCheck) -> Faults:
    """What is wrong with each node that is not fit, in the order of ranks; each fault once.

    Args:
        measures: Of the ranks that told.
        silent: What is wrong with the nodes of those that did not.
        limits: What a node must have.
    """
    gpus = [one for one in measures if one.device != "cpu"]  # others share their cores and memory with the system
    flops = median([one.flops for one in gpus if one.flops] or [0.0])
    bandwidth = median([one.bandwidth for one in gpus if one.bandwidth] or [0.0])
    clock = median(one.clock for one in measures) if measures else 0.0
    found: dict[str, list[str]] = {host: list(faults) for host, faults in silent.items()}
    for host in _cannot_reduce(measures, silent):
        found.setdefault(host, []).append("no all-reduce with its neighbours succeeds, and theirs with others do")
    for one in measures:
        faults = [
            *one.faults,
            *(_gpu_faults(one, flops, bandwidth, limits) if one in gpus else ()),
            *_clock_faults(one.clock - clock, limits.clock_seconds),
        ]
        for fault in faults:
            if fault not in found.setdefault(one.host, []):
                found[one.host].append(fault)
    return {host: faults for host, faults in found.items() if faults}


def _cannot_reduce(measures: Sequence[Measures], silent: Faults) -> Iterable[str]:
    """Nodes that failed with every neighbour that is there, where one of these succeeded with another."""
    good: dict[str, set[str]] = {one.host: set() for one in measures}
    tried: dict[str, set[str]] = {one.host: set() for one in measures}
    for one in measures:
        tried[one.host] |= one.bandwidths.keys() - silent.keys()
        good[one.host] |= {other for other, value in one.bandwidths.items() if value is not None}
    return [
        host
        for host in tried
        if host not in silent and not good[host] and any(good.get(other) for other in tried[host])
    ]


def _gpu_faults(one: Measures, flops: float, bandwidth: float, limits: HealthCheck) -> Iterable[str]:
    if one.free_bytes < limits.free_memory_share * one.total_bytes:
        yield (
            f"rank {one.rank}: {one.free_bytes / 1e9:.1f} of {one.total_bytes / 1e9:.1f} GB of GPU memory are free"
            f" ({limits.free_memory_share:.0%} wanted): somebody else's process?"
        )
    yield from _slow(f"rank {one.rank}'s matrix products", one.flops, flops, limits.matrix_share, 1e12, "TFLOP/s")
    yield from _slow("all-reduce", one.bandwidth, bandwidth, limits.bandwidth_share, 1e9, "GB/s")


def _slow(what: str, value: float | None, usual: float, share: float, unit: float, name: str) -> Iterable[str]:
    if value and value < share * usual:
        yield (
            f"{what} at {value / unit:.3g} {name}, {value / usual:.0%} of the median {usual / unit:.3g}"
            f" ({share:.0%} wanted)"
        )


def _clock_faults(skew: float, most: float) -> Iterable[str]:
    if abs(skew) > most:
        yield f"its clock is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'} ({most:g} allowed)"
