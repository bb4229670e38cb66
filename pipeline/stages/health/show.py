"""What was measured, as a table, and what is wrong, in words."""

from collections.abc import Sequence

from rich.console import Console

from pipeline.runtime.columns import counted, print_columns
from pipeline.stages.health.measures import Measures
from pipeline.stages.health.verdict import Faults


def print_measures(measures: Sequence[Measures]) -> None:
    """Print the worst rank of each node."""
    hosts = dict.fromkeys(one.host for one in measures)
    rows = [_row([one for one in measures if one.host == host]) for host in hosts]
    heads = ("node", "", "device", "GB free", "TFLOP/s", "GB/s")
    print_columns(Console(), "health: the worst rank of each node", heads, rows)


def _row(ranks: Sequence[Measures]) -> tuple[str, ...]:
    """Of one node."""
    bandwidth = min((one.bandwidth for one in ranks if one.bandwidth is not None), default=None)
    return (
        ranks[0].host, counted(len(ranks), "rank"), ranks[0].device,
        f"{min(one.free_bytes for one in ranks) / 1e9:.1f}", f"{min(one.flops for one in ranks) / 1e12:.3g}",
        "" if bandwidth is None else f"{bandwidth / 1e9:.3g}",
    )  # fmt: skip


def in_words(faults: Faults) -> str:
    """All nodes that are not fit, in one sentence."""
    return "; ".join(f"node {host}: {', '.join(said)}" for host, said in faults.items())
