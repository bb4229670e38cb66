"""Recipes one after the other: here in their order, on SLURM as jobs that wait for each other."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from launch.sbatch import cancel, dependency
from launch.step import Step, load_step, run_step, submit_step
from pipeline.config.base import Config
from pipeline.config.chain import ChainConfig
from pipeline.config.cluster import DeepSpeedCluster, SlurmCluster, TorchrunCluster
from pipeline.config.load import read_mapping, validate
from pipeline.errors import ConfigError, TarmacError
from pipeline.runtime.signals import EXIT_REQUEUE

Check = Callable[[Config, Sequence[str]], None]
"""Raises TarmacError if a recipe names what is not there and is in no output of an earlier step."""


@dataclass(frozen=True)
class Chain:
    """Valid recipes in their order."""

    path: str
    steps: Mapping[str, Step]
    """By name."""
    before: Mapping[str, Sequence[str]]
    """Names of the steps that must have succeeded before each."""

    @property
    def is_queued(self) -> bool:
        """Whether SLURM runs it."""
        return any(isinstance(step.cluster, SlurmCluster) for step in self.steps.values())


def is_chain(path: str) -> bool:
    """Whether a file holds a chain. Raises ConfigError if it cannot be read."""
    return "chain" in read_mapping(path)


def load_chain(path: str, cluster: str) -> Chain:
    """A chain, with all its recipes and cluster files read and checked. Raises ConfigError."""
    config = validate(ChainConfig, read_mapping(path), path)
    steps = {one.title: _load(one.title, one.recipe, one.overrides, one.cluster or cluster) for one in config.chain}
    chain = Chain(path, steps, {one.title: config.before(index) for index, one in enumerate(config.chain)})
    for name, step in steps.items():
        if isinstance(step.cluster, SlurmCluster) != chain.is_queued:
            raise ConfigError(
                f"{path}: {name} runs on {step.cluster.type} and others on SLURM; let SLURM run all or none"
            )
        if _is_by_hand(step):
            raise ConfigError(
                f"{path}: {name} is started by hand on each machine; a chain needs SLURM, ssh or one machine"
            )
    return chain


def _load(name: str, recipe: str, overrides: Sequence[str], cluster: str) -> Step:
    try:
        step = load_step(recipe, overrides, cluster)
        return replace(step, job=replace(step.job, name=name))
    except ConfigError as error:
        raise ConfigError(f"step {name}: {error}") from error


def _is_by_hand(step: Step) -> bool:
    if isinstance(step.cluster, TorchrunCluster):
        return step.cluster.nodes > 1
    return isinstance(step.cluster, DeepSpeedCluster) and not step.cluster.ssh


def check_chain(chain: Chain, check: Check) -> None:
    """Check what each recipe names, but what an earlier one makes. Raises TarmacError."""
    made: list[str] = []
    for name, step in chain.steps.items():
        try:
            check(step.recipe, made)
        except TarmacError as error:
            raise type(error)(f"step {name}: {error}") from error
        made.append(step.job.output)


def show_chain(chain: Chain) -> None:
    """Print what would be run; jobs that have no id yet are called by their steps' names."""
    for name, step in chain.steps.items():
        plan = step.plan()
        after = [f"${{{one}}}" for one in chain.before[name]]
        words = " ".join([*map(shlex.quote, plan.command), *dependency(after)]) if chain.is_queued else ""
        print(f"# --- {name}: {words}".rstrip(": "))
        print(plan.shown())


def run_chain(chain: Chain, check: Check) -> int:
    """Run the steps here in their order until one fails; its exit status.

    Given again, all are run again, as each stage does only what is not done yet.
    """
    total = len(chain.steps)
    for number, (name, step) in enumerate(chain.steps.items(), 1):
        print(f"tarmac: step {number} of {total}, {name}: {_told(step)}", file=sys.stderr)
        check(step.recipe, ())
        if status := run_step(step):
            what = "was asked to stop;" if status == EXIT_REQUEUE else f"ended with {status}; mend what it says, then"
            print(f"tarmac: step {name} {what} the same command goes on from there", file=sys.stderr)
            return status
    return 0


def submit_chain(chain: Chain) -> None:
    """Submit all steps and print their jobs; if SLURM does not take one, none is left. Raises TarmacError."""
    jobs: dict[str, str] = {}
    try:
        for name, step in chain.steps.items():
            jobs[name] = submit_step(step, [jobs[one] for one in chain.before[name]])
    except TarmacError as error:
        told = cancel(list(jobs.values()))
        raise type(error)("; ".join(filter(None, [f"step {name}: {error}", told]))) from error
    except BaseException:  # Ctrl-C, too, leaves no half of a chain
        print(f"tarmac: step {name} was not submitted; {cancel(list(jobs.values()))}".rstrip("; "), file=sys.stderr)
        raise
    rows = [(name, jobs[name], ", ".join(chain.before[name]) or "–", _told(step)) for name, step in chain.steps.items()]
    print(f"chain {chain.path}:")
    for line in _lines([("step", "job", "after", "command"), *rows]):
        print(line)


def _lines(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows of words, padded to columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _told(step: Step) -> str:
    return shlex.join(["tarmac", *step.job.arguments])
