"""The `tarmac launch` command."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable

from launch.plan import Job, Plan, plan_local
from launch.record import keep, kept
from launch.slurm import plan_slurm, submit
from pipeline.config.cluster import ClusterConfig, LocalCluster, SlurmCluster
from pipeline.config.load import read_mapping, validate
from pipeline.config.stages import load_stage
from pipeline.errors import ConfigError, RunError

_EPILOG = """examples:
  tarmac launch configs/pretrain/demo.yaml --cluster configs/cluster/local.yaml
  tarmac launch configs/pretrain/1b.yaml --cluster configs/cluster/slurm.yaml optimizer.lr=3e-4 --dry-run

The recipe's stage decides what is run. On this machine the command lasts as long as the job and ends with its exit
status; INT, TERM and USR1 are forwarded to the ranks. On SLURM it submits the job and prints its id.
"""


def add_launch(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `launch` and `resume` to the commands."""
    parser = commands.add_parser(
        "launch",
        help="run a recipe as several processes, here or on a SLURM cluster",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="RECIPE", help="YAML file of a stage")
    words = "values that replace the recipe's"
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", default=[], help=words)
    parser.add_argument("--cluster", required=True, metavar="YAML", help="where to run, see configs/cluster")
    parser.add_argument("--dry-run", action="store_true", help="print what would be run")
    parser.set_defaults(run=launch)
    again = commands.add_parser(
        "resume",
        help="launch a run again, from its folder alone",
        description="Launch a run again as `tarmac launch` was given last, in the folder where it was; it goes on from"
        " its newest good checkpoint. A recipe that was changed since counts as it is now.",
        epilog="Example: tarmac resume runs/demo",
    )
    again.add_argument("run_folder", metavar="RUN", help="run folder")
    again.set_defaults(run=lambda arguments: resume(arguments, parser))


def launch(arguments: argparse.Namespace) -> int:
    """Check the recipe and what it names, then start it where the cluster file says; the exit status.

    What knows models and corpora comes from the command line above: `arguments.check` raises TarmacError if a recipe
    names what is not there, `arguments.show_memory` prints what each of so many ranks needs.
    """
    recipe = load_stage(arguments.config, arguments.overrides)
    values = recipe.model_dump()
    job = Job(values["stage"], arguments.config, tuple(arguments.overrides), str(values.get("output", "")))
    cluster = load_cluster(arguments.cluster)
    if not arguments.dry_run:
        arguments.check(recipe)
    if isinstance(cluster, SlurmCluster):
        plan, start = _slurm(cluster, job)
    else:
        plan, start = _local(cluster, job)
    if not arguments.dry_run:
        if job.is_parallel:
            keep(job.output, [arguments.config, "--cluster", arguments.cluster, *job.overrides])
        return start()
    print(plan.shown(), end="")
    if job.is_parallel:
        arguments.show_memory(recipe, plan.num_ranks)
    return 0


def resume(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Launch a run again; the exit status. Raises TarmacError."""
    folder, words = kept(arguments.run_folder)
    try:
        os.chdir(folder)
    except OSError as error:
        raise RunError(f"run {arguments.run_folder} was launched in {folder}, which is gone; launch it anew") from error
    print(f"in {folder}: tarmac launch {shlex.join(words)}", file=sys.stderr)
    return launch(parser.parse_args(words, namespace=arguments))


def load_cluster(path: str) -> LocalCluster | SlurmCluster:
    """Where a cluster file says that jobs run. Raises ConfigError."""
    values = read_mapping(path)
    if "stage" in values:
        raise ConfigError(f"{path} is a recipe of stage {values['stage']}, no cluster file; see configs/cluster")
    return validate(ClusterConfig, values, path).cluster


def _slurm(cluster: SlurmCluster, job: Job) -> tuple[Plan, Callable[[], int]]:
    plan = plan_slurm(cluster, job, sys.executable)

    def start() -> int:
        print(submit(plan, cluster.log_dir))
        return 0

    return plan, start


def _local(cluster: LocalCluster, job: Job) -> tuple[Plan, Callable[[], int]]:
    from launch.local import run_local
    from launch.machine import this_machine

    machine = this_machine()
    plan = plan_local(cluster, job, machine)
    return plan, lambda: run_local(plan, machine)
