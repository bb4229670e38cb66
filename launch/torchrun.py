"""The plan for one machine or several through torchrun."""

from launch.plan import Job, Machine, Plan, num_ranks, plan_single, variables
from pipeline.config.cluster import TorchrunCluster
from pipeline.errors import RunError


def plan_torchrun(cluster: TorchrunCluster, job: Job, machine: Machine, node_rank: int | None) -> Plan:
    """The plan for this machine, one of the cluster's.

    Args:
        cluster: The cluster.
        job: What to run.
        machine: This machine.
        node_rank: Which of several machines this is, counted from 0; if not given, they agree on it when they meet.

    Raises:
        RunError: There are fewer GPUs than ranks asked for, or fewer machines than `node_rank` says.
    """
    if node_rank is not None and node_rank >= cluster.nodes:
        raise RunError(f"--node-rank ({node_rank}) must be below cluster.nodes ({cluster.nodes})")
    if not job.is_parallel:
        return plan_single(cluster, job, machine)
    ranks = num_ranks(cluster.processes, cluster, machine, "cluster.processes")
    command = (
        *(machine.python, "-m", "launch.agent", "--nnodes", str(cluster.nodes), "--nproc-per-node", str(ranks)),
        *_meeting(cluster, node_rank),
        *("--module", "pipeline.cli", *job.arguments),
    )
    environment = variables(cluster, machine, ranks)
    return Plan(command, environment, num_ranks=ranks * cluster.nodes, ranks_here=ranks, rank_depth=1)


def _meeting(cluster: TorchrunCluster, node_rank: int | None) -> tuple[str, ...]:
    if cluster.nodes == 1:
        return ("--standalone", "--local-addr", "127.0.0.1")
    assert cluster.endpoint is not None
    if node_rank is None:
        return ("--rdzv-backend", "c10d", "--rdzv-endpoint", cluster.endpoint, "--rdzv-id", "tarmac")
    host, _, port = cluster.endpoint.rpartition(":")
    return ("--node-rank", str(node_rank), "--master-addr", host, "--master-port", port)
