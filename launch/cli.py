"""The `tarmac launch`, `resume` and `logs` commands."""

import argparse
import os
import shlex
import sys

from launch.chain import check_chain, is_chain, load_chain, run_chain, show_chain, submit_chain
from launch.record import kept
from launch.step import load_step, require_by_hand, run_step, submit_step
from pipeline.config.cluster import SlurmCluster
from pipeline.errors import ConfigError, RunError

_EPILOG = """examples:
  tarmac launch configs/pretrain/demo.yaml --cluster configs/cluster/local.yaml
  tarmac launch configs/pretrain/1b.yaml --cluster configs/cluster/slurm.yaml optimizer.lr=3e-4 --dry-run
  tarmac launch configs/chain/demo.yaml --cluster configs/cluster/slurm.yaml

The recipe's stage decides what is run. On SLURM the command submits the job and prints its id; else it lasts as long
as the job and ends with its exit status, and INT, TERM and USR1 are forwarded to the ranks.
"""
_NODE = "which of several machines this is, from 0, where each is given the command"


def add_launch(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `launch`, `resume` and `logs` to the commands."""
    parser = commands.add_parser(
        "launch",
        help="run a recipe as several processes, here or on a cluster",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="RECIPE", help="YAML file of a stage, or of a chain")
    words = "values that replace the recipe's"
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", default=[], help=words)
    parser.add_argument("--cluster", required=True, metavar="YAML", help="where to run, see configs/cluster")
    parser.add_argument("--node-rank", type=_node_rank, metavar="N", help=_NODE)
    parser.add_argument("--dry-run", action="store_true", help="print what would be run")
    parser.set_defaults(run=launch)
    _add_resume(commands, parser)
    _add_logs(commands)


def _add_resume(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", parser: argparse.ArgumentParser
) -> None:
    again = commands.add_parser(
        "resume",
        help="launch a run again, from its folder alone",
        description="Launch a run again as `tarmac launch` was given last, in the folder where it was; it goes on from"
        " its newest good checkpoint. A recipe that was changed since counts as it is now.",
        epilog="Example: tarmac resume runs/demo",
    )
    again.add_argument("run_folder", metavar="RUN", help="run folder")
    again.add_argument("--node-rank", type=_node_rank, metavar="N", help=_NODE)
    again.set_defaults(run=lambda arguments: resume(arguments, parser))


def _add_logs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    logs = commands.add_parser(
        "logs",
        help="what all ranks of a SLURM job said, in the order of time",
        description="The logs of all tasks of a run's SLURM jobs, over all their starts, each line with its rank, in"
        " the order of time. Lines without a time stamp stay with the one above.",
        epilog="Examples: tarmac logs runs/demo; tarmac logs runs/slurm/tarmac-stdlib-4711",
    )
    logs.add_argument("place", metavar="RUN|DIR/NAME-JOB", help="run folder, or how a job's log files begin")
    logs.set_defaults(run=_logs)


def launch(arguments: argparse.Namespace) -> int:
    """Check the recipe and what it names, then start it where the cluster file says; the exit status.

    What knows models and corpora comes from the command line above: `arguments.check` raises TarmacError if a recipe
    names what is not there, `arguments.show_memory` prints what each of so many ranks needs.
    """
    if is_chain(arguments.config):
        return _launch_chain(arguments)
    step = load_step(arguments.config, arguments.overrides, arguments.cluster)
    require_by_hand(step.cluster, arguments.node_rank)
    if arguments.dry_run:
        plan = step.plan(arguments.node_rank)
        print(plan.shown(), end="")
        if step.job.is_parallel:
            arguments.show_memory(step.recipe, plan.num_ranks)
        return 0
    arguments.check(step.recipe, ())
    if not isinstance(step.cluster, SlurmCluster):
        return run_step(step, arguments.node_rank)
    print(submit_step(step))
    if step.job.is_parallel:
        print(f"tarmac: its logs go to {step.cluster.log_dir}; tarmac status {step.job.output}", file=sys.stderr)
    return 0


def _launch_chain(arguments: argparse.Namespace) -> int:
    if arguments.overrides:
        raise ConfigError(f"{arguments.overrides[0]!r} replaces a recipe's key; put it into a step's overrides")
    if arguments.node_rank is not None:
        raise ConfigError("--node-rank is for one recipe; a chain needs SLURM, ssh or one machine")
    chain = load_chain(arguments.config, arguments.cluster)
    if arguments.dry_run:
        show_chain(chain)
        return 0
    check_chain(chain, arguments.check)
    if not chain.is_queued:
        return run_chain(chain, arguments.check)
    submit_chain(chain)
    return 0


def _logs(arguments: argparse.Namespace) -> None:
    from launch.logs import merged

    for line in merged(arguments.place):
        print(line)


def resume(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Launch a run again; the exit status. Raises TarmacError."""
    folder, words = kept(arguments.run_folder)
    try:
        os.chdir(folder)
    except OSError as error:
        raise RunError(f"run {arguments.run_folder} was launched in {folder}, which is gone; launch it anew") from error
    print(f"in {folder}: tarmac launch {shlex.join(words)}", file=sys.stderr)
    node_rank = arguments.node_rank
    arguments = parser.parse_args(words, namespace=arguments)
    arguments.node_rank = node_rank
    return launch(arguments)


def _node_rank(word: str) -> int:
    if (number := int(word)) < 0:
        raise argparse.ArgumentTypeError(f"{number} must not be below 0")
    return number


_node_rank.__name__ = "number"
