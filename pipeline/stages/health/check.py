"""The check: ranks measure, meet, and rank 0 tells which nodes are not fit."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pipeline.config.cluster import HealthCheck
from pipeline.engine.process_group import complete_environment
from pipeline.errors import RunError, UnhealthyError
from pipeline.runtime.files import write_text
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.stages.health.bandwidth import neighbour_bandwidths
from pipeline.stages.health.measures import Measures, device_of, measure
from pipeline.stages.health.meeting import Meeting, host_of
from pipeline.stages.health.show import in_words, print_measures
from pipeline.stages.health.verdict import Faults, blames_the_job, faults_by_host


def check_health(limits: HealthCheck, folders: Sequence[str], hosts: Sequence[str], bad_nodes: str | None) -> None:
    """Measure every node and compare; every rank of the job calls it.

    Args:
        limits: What a node must have, and how long ranks wait for each other.
        folders: A rank of each node must be able to write there.
        hosts: All nodes, in the order of ranks, to name one that does not come; they may be unknown.
        bad_nodes: File for the names of nodes that are not fit, one a line; not made where all are.

    Raises:
        UnhealthyError: On all ranks, with the nodes that are not fit; or rank 0 is not there.
        RunError: On all ranks: most nodes are not fit, so that it is not for the nodes.
    """
    ranks = ranks_from_environment()
    complete_environment(ranks)
    os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"  # else NCCL ends the process where a neighbour hangs
    on_gpu = os.environ.get("DS_ACCELERATOR") != "cpu"
    mine = measure(ranks, folders, on_gpu)
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        meeting = Meeting(ranks, *place, limits.timeout_seconds)
        names, faults = _meet(meeting, mine, limits, hosts, device_of(ranks.local_rank, on_gpu))
    except dist.DistError as error:
        raise _lost(ranks.is_main, mine.host, place, error) from error
    _conclude(faults, names, bad_nodes if ranks.is_main else None)


def _lost(is_main: bool, host: str, place: tuple[str, int], error: Exception) -> UnhealthyError:
    """The error of a rank that could not open the meeting, or found nobody there."""
    reason = str(error).splitlines()[0]
    if is_main:
        said = f"node {host} cannot use port {place[1]} ({reason}); set another one, cluster.master_port"
    else:
        said = f"node {host} cannot reach rank 0 at {place[0]}:{place[1]} ({reason}); look at rank 0's log"
    lost = UnhealthyError(said)
    lost.on_all_ranks = False
    return lost


def _conclude(faults: Faults, hosts: Sequence[str], bad_nodes: str | None) -> None:
    """Raise an error if a node is not fit."""
    if blames_the_job(faults, hosts):
        error = RunError(f"most nodes are not fit, so that it is not for the nodes: {in_words(faults)}")
        error.on_all_ranks = True
        raise error
    if faults:
        if bad_nodes:
            Path(bad_nodes).parent.mkdir(parents=True, exist_ok=True)
            write_text(Path(bad_nodes), "".join(f"{host}\n" for host in faults))
        raise UnhealthyError(f"{in_words(faults)}. Leave out what is not fit, and tell who runs the cluster")


def _meet(
    meeting: Meeting, mine: Measures, limits: HealthCheck, hosts: Sequence[str], device: torch.device
) -> tuple[Sequence[str], Faults]:
    """Each rank's node, and what is wrong with which node, on all ranks."""
    meeting.put("here", mine.host)
    if meeting.ranks.is_main:
        meeting.tell("hosts", _hosts_and_absent(meeting.collect("here"), hosts))
    names, absent = meeting.hear("hosts")
    if not absent:
        _measure_together(meeting, mine, names, device)
    if meeting.ranks.is_main:
        faults = _who(names, absent, "did not come") or _judge(
            meeting.collect("measures", (), 2 * meeting.seconds), limits, names
        )
        meeting.tell("faults", faults)
    faults = meeting.hear("faults")
    meeting.leave(absent)
    return names, faults


def _hosts_and_absent(found: Sequence[str | None], hosts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Each rank's node, and the ranks that did not come."""
    names = [one or host_of(rank, len(found), hosts) for rank, one in enumerate(found)]
    return names, [rank for rank, one in enumerate(found) if one is None]


def _measure_together(meeting: Meeting, mine: Measures, names: Sequence[str], device: torch.device) -> None:
    """Clocks; and all-reduce, if no device has a fault, which is told as it is."""
    meeting.put("ready", not mine.faults)
    if meeting.ranks.is_main:
        meeting.tell("all fit", all(meeting.collect("ready")))
    all_fit = meeting.hear("all fit")  # a small word, so that it reaches all at about the same time
    mine.clock = time.time()
    if all_fit:
        mine.bandwidths = neighbour_bandwidths(meeting, names, device)
    meeting.put("measures", asdict(mine))


def _judge(measures: Sequence[dict[str, Any] | None], limits: HealthCheck, names: Sequence[str]) -> Faults:
    told = [Measures(**one) for one in measures if one is not None]
    silent = [rank for rank, one in enumerate(measures) if one is None]
    print_measures(told)
    faults = faults_by_host(told, _who(names, silent, "hung or died in an all-reduce"), limits)
    if not faults:
        print("all nodes are fit", flush=True)
    return faults


def _who(names: Sequence[str], ranks: Sequence[int], did: str) -> dict[str, list[str]]:
    """What ranks did, by their nodes."""
    found: dict[str, list[str]] = {}
    for rank in ranks:
        found.setdefault(names[rank], []).append(f"rank {rank} {did}")
    return found
