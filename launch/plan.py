"""What to start: from a cluster config and a recipe to a command, its environment and, on SLURM, a batch script.

What all kinds of clusters share. Plans are pure functions: `launch.machine` looks at the machine, `launch.run` acts.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.config.cluster import ProcessCluster
from pipeline.config.stages import COMMANDS
from pipeline.errors import ConfigError, RunError

PARALLEL_STAGES = ("pretrain", "finetune")
"""The stages that run as several ranks; the others are one process."""

RANKS_WITHOUT_GPU = 2


@dataclass(frozen=True)
class Job:
    """What the user asks to be run."""

    stage: str
    """The recipe's stage."""
    recipe: str
    """Path of the recipe."""
    overrides: tuple[str, ...] = ()
    """`section.key=value` words."""
    output: str = ""
    """The folder that the recipe's stage writes, if it has one."""
    name: str = ""
    """What a chain calls it; else it is called after its recipe."""

    @property
    def arguments(self) -> list[str]:
        """The words after `tarmac`."""
        return [COMMANDS[self.stage], self.recipe, *self.overrides]

    @property
    def is_parallel(self) -> bool:
        """Whether it runs as several ranks."""
        return self.stage in PARALLEL_STAGES

    @property
    def runs_a_model(self) -> bool:
        """Whether it has a use for GPUs."""
        return self.stage != "prep"


@dataclass(frozen=True)
class Machine:
    """The facts about this machine that a plan depends on."""

    python: str
    """The running interpreter."""
    gpus: int
    """GPUs that this process may use."""
    cores: int
    """CPU cores that this process may use."""
    free_port: int
    """A TCP port nobody listens on."""
    extensions: str
    """Folder for DeepSpeed's compiled operators."""
    environment: Mapping[str, str]
    """The environment variables of this process."""
    name: str = "localhost"
    """The machine's name."""
    folder: str = "/"
    """The working folder."""
    launch: str = ""
    """A name for this launch that no other one has."""


@dataclass(frozen=True)
class Plan:
    """What will be started."""

    command: tuple[str, ...]
    """Program and arguments."""
    environment: Mapping[str, str]
    """Variables to set on top of the inherited ones."""
    script: str | None = None
    """The batch script that goes to the command's standard input."""
    num_ranks: int = 0
    """Ranks of the whole job; 0 if the command is the job itself."""
    ranks_here: int = 0
    """Those that the command's launcher starts on this machine."""
    rank_depth: int = 2
    """How many generations the ranks are below the command."""
    about: str = ""
    """What the command does not show of itself."""

    def shown(self) -> str:
        """The plan as text for `--dry-run`: the script, or one line that can be pasted into a shell."""
        if self.script is not None:
            return self.script
        variables = [f"{name}={shlex.quote(value)}" for name, value in sorted(self.environment.items())]
        about = f"# {self.about}\n" if self.about else ""
        return about + " ".join([*variables, shlex.join(self.command)]) + "\n"


def variables(cluster: ProcessCluster, machine: Machine, ranks: int) -> dict[str, str]:
    """What is set for so many processes on this machine. Raises ConfigError if a variable's name is none."""
    check_environment(cluster.environment)
    threads = cluster.threads_per_process
    environment = {"OMP_NUM_THREADS": str(max(1, machine.cores // ranks) if threads == "auto" else threads)}
    if not machine.gpus and not on_cpu(cluster, machine):
        environment["DS_ACCELERATOR"] = "cpu"  # left to guess, DeepSpeed imports every vendor's package first
    if "TORCH_EXTENSIONS_DIR" not in machine.environment:
        environment["TORCH_EXTENSIONS_DIR"] = machine.extensions
    return {**environment, **cluster.environment}


def plan_single(cluster: ProcessCluster, job: Job, machine: Machine) -> Plan:
    """The plan for a stage that is one process, on this machine. Raises ConfigError as `variables` does."""
    return Plan((machine.python, "-m", "pipeline.cli", *job.arguments), variables(cluster, machine, 1))


def num_ranks(processes: int | Literal["auto"], cluster: ProcessCluster, machine: Machine, key: str) -> int:
    """The ranks on this machine. Raises RunError if there are fewer GPUs than ranks asked for by `key`."""
    if processes == "auto":
        return RANKS_WITHOUT_GPU if on_cpu(cluster, machine) else machine.gpus or RANKS_WITHOUT_GPU
    if machine.gpus and processes > machine.gpus and not on_cpu(cluster, machine):
        raise RunError(
            f"{key} ({processes}) must be at most the number of GPUs ({machine.gpus});"
            " lower it, or run on CPU with cluster.environment DS_ACCELERATOR: cpu"
        )
    return processes


def on_cpu(cluster: ProcessCluster, machine: Machine) -> bool:
    """Whether GPUs, if there are any, are left alone."""
    return cluster.environment.get("DS_ACCELERATOR", machine.environment.get("DS_ACCELERATOR")) == "cpu"


def check_environment(environment: Mapping[str, str]) -> None:
    """Raise ConfigError if a variable's name is not one a shell accepts."""
    for name in environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ConfigError(
                f"cluster.environment has the name {name!r}; use letters, digits and underscores, a digit not first"
            )


def check_single_lines(values: Mapping[str, str | None]) -> None:
    """Raise ConfigError if a value that goes into a line of its own holds a line break."""
    for name, value in values.items():
        if value is not None and "\n" in value:
            raise ConfigError(f"cluster.{name} is {value!r}; it must be a single line")


def exports(environment: Mapping[str, str]) -> Sequence[str]:
    """Shell lines that set the variables."""
    return [f"export {name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
