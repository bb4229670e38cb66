"""The check: ranks measure, meet, and rank 0 tells which nodes are not fit."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console

from pipeline.engine.process_group import complete_environment
from pipeline.errors import RunError, UnhealthyError
from pipeline.runtime.columns import counted, print_columns
from pipeline.runtime.files import write_text
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.stages.health.bandwidth import neighbour_bandwidth
from pipeline.stages.health.measures import Measures, device_of, measure
from pipeline.stages.health.meeting import Meeting, host_of
from pipeline.stages.health.verdict import Limits, faults_by_host

Faults = Mapping[str, Sequence[str]]


def check_health(
    limits: Limits, folders: Sequence[str], hosts: Sequence[str], seconds: float, bad_nodes: str | None
) -> None:
    """Measure every node and compare; every rank of the job calls it.

    Args:
        limits: What a node must have.
        folders: Every rank must be able to write there.
        hosts: All nodes, in the order of ranks, to name one that does not come; they may be unknown.
        seconds: How long ranks wait for each other.
        bad_nodes: File for the names of nodes that are not fit, one a line.

    Raises:
        UnhealthyError: On all ranks, with the nodes that are not fit.
        RunError: Rank 0 is not there.
    """
    ranks = ranks_from_environment()
    complete_environment(ranks)
    on_gpu = os.environ.get("DS_ACCELERATOR") != "cpu"
    mine = measure(ranks, folders, on_gpu)
    try:
        meeting = Meeting(ranks, os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), seconds)
        faults = _meet(meeting, mine, limits, hosts, device_of(ranks.local_rank, on_gpu), bad_nodes)
        meeting.leave()
    except dist.DistError as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RunError(
            f"{mine.host} cannot reach rank 0 at {place} ({str(error).splitlines()[0]});"
            " look at its network and at rank 0's log"
        ) from error
    if faults:
        raise UnhealthyError(in_words(faults))


def _meet(
    meeting: Meeting, mine: Measures, limits: Limits, hosts: Sequence[str], device: torch.device, bad_nodes: str | None
) -> Faults:
    """What is wrong with which node, on all ranks."""
    meeting.put("here", mine.host)
    if meeting.ranks.is_main:
        meeting.tell("hosts", _hosts_or_missing(meeting.collect("here"), hosts))
    known, missing = meeting.hear("hosts")
    if not missing:
        mine.clock = time.time()  # rank 0's word reached all at once
        _measure_bandwidth(meeting, mine, known, device)
        meeting.put("measures", asdict(mine))
    if meeting.ranks.is_main:
        meeting.tell("faults", missing or _judge(meeting.collect("measures"), limits, known))
        _tell(meeting.hear("faults"), bad_nodes)
    return meeting.hear("faults")


def _hosts_or_missing(found: Sequence[str | None], hosts: Sequence[str]) -> tuple[list[str], Faults]:
    """Each rank's node, and what is wrong with those whose ranks did not come."""
    names = [one or host_of(rank, len(found), hosts) for rank, one in enumerate(found)]
    missing: dict[str, list[str]] = {}
    for rank, one in enumerate(found):
        if one is None:
            missing.setdefault(names[rank], []).append(f"rank {rank} did not come")
    return names, missing


def _measure_bandwidth(meeting: Meeting, mine: Measures, hosts: Sequence[str], device: torch.device) -> None:
    """Devices that fail, or are not there, keep out the whole job's collectives; their faults are told as they are."""
    meeting.put("fit", not mine.faults)
    if meeting.ranks.is_main:
        meeting.tell("all fit", all(meeting.collect("fit")))
    if not meeting.hear("all fit"):
        return
    ranks = meeting.ranks
    try:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore("reduce", meeting.store), rank=ranks.rank, world_size=ranks.world_size,
            device_id=device if device.type == "cuda" else None, timeout=timedelta(seconds=meeting.seconds),
        )  # fmt: skip
        mine.bandwidth = neighbour_bandwidth(hosts, ranks.rank, device)
    except RuntimeError as error:
        mine.faults.append(f"rank {ranks.rank} cannot reduce with its neighbours: {str(error).splitlines()[0]}")
    if dist.is_initialized():
        dist.destroy_process_group()


def _judge(measures: Sequence[dict[str, Any] | None], limits: Limits, hosts: Sequence[str]) -> Faults:
    came = [Measures(**one) for one in measures if one is not None]
    _print(came)
    lost = {
        hosts[rank]: [f"rank {rank} hung or died in an all-reduce"] for rank, one in enumerate(measures) if one is None
    }
    return {**faults_by_host(came, limits), **lost}


def _print(measures: Sequence[Measures]) -> None:
    rows = []
    for host in dict.fromkeys(one.host for one in measures):
        ranks = [one for one in measures if one.host == host]
        bandwidth = min((one.bandwidth for one in ranks if one.bandwidth is not None), default=None)
        rows.append((
            host, counted(len(ranks), "rank"), ranks[0].device, f"{min(one.free_bytes for one in ranks) / 1e9:.1f}",
            f"{min(one.flops for one in ranks) / 1e12:.3g}", "" if bandwidth is None else f"{bandwidth / 1e9:.3g}",
        ))  # fmt: skip
    heads = ("node", "", "device", "GB free", "TFLOP/s", "GB/s")
    print_columns(Console(), "health: the worst rank of each node", heads, rows)


def _tell(faults: Faults, bad_nodes: str | None) -> None:
    if not faults:
        print("all nodes are fit", flush=True)
    elif bad_nodes:
        Path(bad_nodes).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(bad_nodes), "".join(f"{host}\n" for host in faults))


def in_words(faults: Faults) -> str:
    """One sentence on all nodes that are not fit."""
    nodes = "; ".join(f"node {host}: {', '.join(said)}" for host, said in faults.items())
    return (
        f"{nodes}. Leave {'it' if len(faults) == 1 else 'them'} out with cluster.exclude, and tell who runs the cluster"
    )
