"""What to start: from a cluster config and a recipe to a command, its environment and, on SLURM, a batch script.

Everything here is a pure function of its arguments; `launch.machine` looks at the machine, `launch.local` and
`launch.slurm` act.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.cluster import LocalCluster
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

    @property
    def arguments(self) -> list[str]:
        """The words after `tarmac`."""
        return [COMMANDS[self.stage], self.recipe, *self.overrides]

    @property
    def is_parallel(self) -> bool:
        """Whether it runs as several ranks."""
        return self.stage in PARALLEL_STAGES


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
    """Ranks that the command's launcher starts; 0 if the command is the job itself."""

    def shown(self) -> str:
        """The plan as text for `--dry-run`: the script, or one line that can be pasted into a shell."""
        if self.script is not None:
            return self.script
        variables = [f"{name}={shlex.quote(value)}" for name, value in sorted(self.environment.items())]
        return " ".join([*variables, shlex.join(self.command)]) + "\n"


def plan_local(cluster: LocalCluster, job: Job, machine: Machine) -> Plan:
    """The plan for this machine. Raises RunError if there are fewer GPUs than ranks asked for."""
    check_environment(cluster.environment)
    ranks = _num_ranks(cluster, machine) if job.is_parallel else 1
    environment = {"OMP_NUM_THREADS": str(_threads(cluster, machine, ranks)), **_accelerator(cluster, machine)}
    if "TORCH_EXTENSIONS_DIR" not in machine.environment:
        environment["TORCH_EXTENSIONS_DIR"] = machine.extensions
    environment.update(cluster.environment)
    if not job.is_parallel:
        return Plan((machine.python, "-m", "pipeline.cli", *job.arguments), environment)
    port = cluster.master_port or machine.free_port
    launcher = _deepspeed(machine, ranks, port)
    return Plan((*launcher, "--module", "pipeline.cli", *job.arguments), environment, num_ranks=ranks)


def _num_ranks(cluster: LocalCluster, machine: Machine) -> int:
    if cluster.processes == "auto":
        return RANKS_WITHOUT_GPU if _on_cpu(cluster, machine) else machine.gpus or RANKS_WITHOUT_GPU
    if machine.gpus and cluster.processes > machine.gpus and not _on_cpu(cluster, machine):
        raise RunError(
            f"cluster.processes ({cluster.processes}) must be at most the number of GPUs ({machine.gpus});"
            " lower it, or run on CPU with cluster.environment DS_ACCELERATOR: cpu"
        )
    return cluster.processes


def _on_cpu(cluster: LocalCluster, machine: Machine) -> bool:
    return cluster.environment.get("DS_ACCELERATOR", machine.environment.get("DS_ACCELERATOR")) == "cpu"


def _threads(cluster: LocalCluster, machine: Machine, ranks: int) -> int:
    return max(1, machine.cores // ranks) if cluster.threads_per_process == "auto" else cluster.threads_per_process


def _accelerator(cluster: LocalCluster, machine: Machine) -> dict[str, str]:
    """Without a GPU DeepSpeed is told so; left to guess, it imports every vendor's package first."""
    return {} if machine.gpus or _on_cpu(cluster, machine) else {"DS_ACCELERATOR": "cpu"}


def _deepspeed(machine: Machine, ranks: int, port: int) -> tuple[str, ...]:
    """DeepSpeed's launcher, kept to this machine and its usual chatter.

    `--hostfile /dev/null`: a /job/hostfile, which some containers have, would make it a multi-node job over ssh.
    `--log_level critical`: else it calls every exit status an error, also that of an orderly stop.
    `--no_local_rank`: else `--local_rank=N` is put before the sub-command.
    """
    return (
        *(machine.python, "-m", "deepspeed.launcher.runner", "--log_level", "critical", "--hostfile", "/dev/null"),
        *_devices(machine, ranks),
        *("--master_port", str(port), "--no_local_rank"),
    )


def _devices(machine: Machine, ranks: int) -> tuple[str, str]:
    """`--num_gpus N` takes the first N devices whatever CUDA_VISIBLE_DEVICES says, so chosen ones are spelled out."""
    visible = machine.environment.get("CUDA_VISIBLE_DEVICES", "")
    if not machine.gpus or not visible:
        return "--num_gpus", str(ranks)
    chosen = [device.strip() for device in visible.split(",")]
    if not all(device.isdigit() for device in chosen):
        raise RunError(
            f"CUDA_VISIBLE_DEVICES ({visible}) must hold device numbers, DeepSpeed's launcher needs them; give numbers"
        )
    return "--include", f"localhost:{','.join(chosen[:ranks])}"


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
