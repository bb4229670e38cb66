"""The `tarmac launch` command."""

import argparse
import sys

from launch.plan import Job, plan_local
from launch.slurm import plan_slurm, submit
from pipeline.config.cluster import ClusterConfig, LocalCluster, SlurmCluster
from pipeline.config.load import load
from pipeline.config.stages import load_stage

_EPILOG = """examples:
  tarmac launch configs/pretrain/demo.yaml --cluster configs/cluster/local.yaml
  tarmac launch configs/pretrain/1b.yaml --cluster configs/cluster/slurm.yaml optimizer.lr=3e-4 --dry-run

The recipe's stage decides what is run. On this machine the command lasts as long as the job and ends with its exit
status; INT, TERM and USR1 are forwarded to the ranks. On SLURM it submits the job and prints its id.
"""


def add_launch(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `launch` to the commands."""
    parser = commands.add_parser(
        "launch",
        help="run a recipe as several processes, here or on a SLURM cluster",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="RECIPE", help="YAML file of a stage")
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", help="values that replace the recipe's")
    parser.add_argument("--cluster", required=True, metavar="YAML", help="where to run, see configs/cluster")
    parser.add_argument("--dry-run", action="store_true", help="print what would be run")
    parser.set_defaults(run=launch)


def launch(arguments: argparse.Namespace) -> int:
    """Check the recipe, then start it where the cluster file says; the exit status. Raises ConfigError, RunError."""
    recipe = load_stage(arguments.config, arguments.overrides)
    job = Job(recipe.model_dump()["stage"], arguments.config, tuple(arguments.overrides))
    cluster = load(ClusterConfig, arguments.cluster).cluster
    if isinstance(cluster, SlurmCluster):
        return _slurm(cluster, job, arguments.dry_run)
    return _local(cluster, job, arguments.dry_run)


def _slurm(cluster: SlurmCluster, job: Job, dry_run: bool) -> int:
    plan = plan_slurm(cluster, job, sys.executable)
    print(plan.shown() if dry_run else submit(plan, cluster.log_dir), end="" if dry_run else "\n")
    return 0


def _local(cluster: LocalCluster, job: Job, dry_run: bool) -> int:
    from launch.local import run_local
    from launch.machine import this_machine

    machine = this_machine()
    plan = plan_local(cluster, job, machine)
    if dry_run:
        print(plan.shown(), end="")
        return 0
    return run_local(plan, machine)
