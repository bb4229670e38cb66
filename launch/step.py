"""One recipe on one cluster: what is started for each kind of cluster."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.hostfile import find_node, plan_deepspeed, read_hosts
from launch.local import plan_local
from launch.plan import Job, Machine, Plan
from launch.record import keep, keep_log
from launch.sbatch import submit
from launch.slurm import job_name, plan_slurm
from launch.torchrun import plan_torchrun
from pipeline.config.base import Config
from pipeline.config.cluster import (
    ClusterConfig,
    DeepSpeedCluster,
    LocalCluster,
    ProcessCluster,
    SlurmCluster,
    TorchrunCluster,
)
from pipeline.config.load import read_mapping, validate
from pipeline.config.stages import load_stage
from pipeline.errors import ConfigError, RunError


@dataclass(frozen=True)
class Step:
    """A valid recipe, and where it runs."""

    job: Job
    """What to run."""
    recipe: Config
    """The same, read."""
    cluster: ProcessCluster | SlurmCluster
    """Where."""
    cluster_path: str
    """The file that says so."""

    def plan(self, node_rank: int | None = None) -> Plan:
        """What will be started. Raises TarmacError."""
        if isinstance(self.cluster, SlurmCluster):
            return plan_slurm(self.cluster, self.job, sys.executable)
        from launch.machine import this_machine

        return _plan_here(self.cluster, self.job, this_machine(), node_rank)

    def keep(self) -> None:
        """Keep how the run is launched, so that its folder is enough to launch it again. Raises RunError."""
        if self.job.is_parallel:
            keep(self.job.output, [self.job.recipe, "--cluster", self.cluster_path, *self.job.overrides])


def load_step(recipe: str, overrides: Sequence[str], cluster: str) -> Step:
    """A recipe and a cluster file, read and checked. Raises ConfigError."""
    config = load_stage(recipe, overrides)
    values = config.model_dump()
    job = Job(values["stage"], recipe, tuple(overrides), str(values["output"]))
    return Step(job, config, load_cluster(cluster), cluster)


def load_cluster(path: str) -> ProcessCluster | SlurmCluster:
    """Where a cluster file says that jobs run. Raises ConfigError."""
    values = read_mapping(path)
    if "stage" in values:
        raise ConfigError(f"{path} is a recipe of stage {values['stage']}, no cluster file; see configs/cluster")
    return validate(ClusterConfig, values, path).cluster


def run_step(step: Step, node_rank: int | None = None) -> int:
    """Run a step here, to its end; the exit status. Of several machines the first runs what is one process.

    Raises:
        TarmacError: It cannot be started here, or which of several machines this is must be known and is not.
    """
    from launch.machine import this_machine
    from launch.run import run_here

    assert not isinstance(step.cluster, SlurmCluster)
    machine = this_machine()
    node_rank = _node_rank(step.cluster, step.job, machine, node_rank)
    if node_rank and not step.job.is_parallel:
        print(f"{step.job.stage} is one process, on the machine of --node-rank 0; nothing to do here", file=sys.stderr)
        return 0
    plan = _plan_here(step.cluster, step.job, machine, node_rank)
    if not node_rank:
        step.keep()
    return run_here(plan, machine, step.job.output)


def submit_step(step: Step, after: Sequence[str] = ()) -> str:
    """Submit a step to SLURM, to start when other jobs have succeeded; the job's id. Raises TarmacError."""
    assert isinstance(step.cluster, SlurmCluster)
    plan = step.plan()
    step.keep()
    number = submit(plan, step.cluster.log_dir, after)
    if step.job.is_parallel:
        keep_log(step.job.output, f"{step.cluster.log_dir}/{job_name(step.job)}-{number}")
    return number


def require_by_hand(cluster: ProcessCluster | SlurmCluster, node_rank: int | None) -> None:
    """Raise ConfigError if a machine's number is given where the command is given once."""
    if node_rank is not None and isinstance(cluster, LocalCluster | SlurmCluster):
        raise ConfigError(f"--node-rank ({node_rank}) is for several machines by hand, and this is {cluster.type}")


def _node_rank(cluster: ProcessCluster, job: Job, machine: Machine, node_rank: int | None) -> int | None:
    """Which of several machines that are each given the command this is, where that is known."""
    if isinstance(cluster, DeepSpeedCluster) and not cluster.ssh:
        return find_node(_hosts(cluster), machine, node_rank, cluster.hostfile)
    if isinstance(cluster, TorchrunCluster) and cluster.nodes > 1 and node_rank is None and not job.is_parallel:
        raise RunError(
            f"{job.stage} is one process, and the command may be given on each of cluster.nodes ({cluster.nodes});"
            " give --node-rank, 0 where it is to run"
        )
    return node_rank


def _plan_here(cluster: ProcessCluster, job: Job, machine: Machine, node_rank: int | None) -> Plan:
    if isinstance(cluster, DeepSpeedCluster):
        return plan_deepspeed(cluster, job, machine, _hosts(cluster), node_rank)
    if isinstance(cluster, TorchrunCluster):
        return plan_torchrun(cluster, job, machine, node_rank)
    return plan_local(cluster, job, machine)


def _hosts(cluster: DeepSpeedCluster) -> dict[str, int]:
    try:
        return read_hosts(Path(cluster.hostfile).read_text(encoding="utf-8"), cluster.hostfile)
    except OSError as error:
        raise ConfigError(
            f"cluster.hostfile ({cluster.hostfile}) cannot be read: {error.strerror}; give a file of hosts"
        ) from error
