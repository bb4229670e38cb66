"""Which nodes are not fit, by what all ranks measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pipeline.stages.health.measures import Measures


@dataclass(frozen=True)
class Limits:
    """What a node must have."""

    matrix_share: float
    """Speed of a rank's matrix products beside the median of all."""
    bandwidth_share: float
    """Speed of a node's all-reduce beside the median of all."""
    free_memory_share: float
    """Memory of a GPU that nobody uses."""
    clock_seconds: float
    """How far a clock may be from the median of all."""


def faults_by_host(measures: Sequence[Measures], limits: Limits) -> Mapping[str, list[str]]:
    """What is wrong with each node that is not fit, in the order of ranks; each fault once."""
    flops = median([one.flops for one in measures if one.flops] or [0.0])
    clock = median(one.clock for one in measures)
    bandwidths = [one.bandwidth for one in measures if one.bandwidth is not None]
    bandwidth = median(bandwidths) if bandwidths else None
    found: dict[str, list[str]] = {}
    for one in measures:
        faults = [
            *one.faults,
            *_memory_faults(one, limits.free_memory_share),
            *_slow(
                f"rank {one.rank}'s matrix products", one.flops or None, flops, limits.matrix_share, 1e12, "TFLOP/s"
            ),
            *_slow("all-reduce", one.bandwidth, bandwidth, limits.bandwidth_share, 1e9, "GB/s"),
            *_clock_faults(one.clock - clock, limits.clock_seconds),
        ]
        for fault in faults:
            if fault not in found.setdefault(one.host, []):
                found[one.host].append(fault)
    return {host: faults for host, faults in found.items() if faults}


def _memory_faults(one: Measures, share: float) -> Iterable[str]:
    """The memory of a host is shared with the system and its caches, so only that of GPUs counts."""
    if one.device != "cpu" and one.free_bytes < share * one.total_bytes:
        yield (
            f"rank {one.rank}: {one.free_bytes / 1e9:.1f} of {one.total_bytes / 1e9:.1f} GB of GPU memory are free"
            f" ({share:.0%} wanted): somebody else's process?"
        )


def _slow(what: str, value: float | None, usual: float | None, share: float, unit: float, name: str) -> Iterable[str]:
    if value is not None and usual and value < share * usual:
        yield (
            f"{what} at {value / unit:.3g} {name}, {value / usual:.0%} of the median {usual / unit:.3g}"
            f" ({share:.0%} wanted)"
        )


def _clock_faults(skew: float, most: float) -> Iterable[str]:
    if abs(skew) > most:
        yield f"its clock is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'} ({most:g} allowed)"
