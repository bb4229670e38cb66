"""Where a job runs: on this machine, on hosts that are known by name, or on a SLURM cluster."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pipeline.config.base import Config
from pipeline.config.sentences import PLACE_PATTERN, TIME_PATTERN

Port = Annotated[int, Field(ge=1, le=65535)]
Word = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value)]
"""A variable's value; YAML takes one of digits for a number."""


class LocalCluster(Config):
    """Processes on this machine, through DeepSpeed's launcher."""

    type: Literal["local"]
    """This machine."""
    processes: PositiveInt | Literal["auto"] = "auto"
    """Number of ranks; `auto` is one per GPU, or 2 on a machine without GPUs."""
    threads_per_process: PositiveInt | Literal["auto"] = "auto"
    """CPU threads of each rank; `auto` shares the cores evenly."""
    master_port: Port | None = None
    """Port for the ranks to meet; a free one if not given."""
    environment: dict[str, Word] = Field(default_factory=dict)
    """More environment variables."""


class HealthCheck(Config):
    """What every node must have before training begins on it."""

    matrix_share: PositiveFloat = Field(default=0.8, le=1)
    """Speed of each rank's matrix products beside the median of all."""
    bandwidth_share: PositiveFloat = Field(default=0.5, le=1)
    """Speed of all-reduce with a neighbouring node beside the median of all."""
    free_memory_share: PositiveFloat = Field(default=0.9, le=1)
    """Memory of each GPU that nobody uses."""
    clock_seconds: PositiveFloat = 1.0
    """How far a node's clock may be from the median of all."""
    timeout_seconds: PositiveFloat = 100.0
    """How long ranks wait for each other."""


class DeepSpeedCluster(Config):
    """The hosts of a hostfile, through DeepSpeed's launcher."""

    type: Literal["deepspeed"]
    """Hosts of a hostfile."""
    hostfile: str
    """File with a line `NAME slots=RANKS` for each host."""
    ssh: bool = True
    """The hosts are reached from this one by pdsh over ssh; or `tarmac launch` is given on each, with --node-rank."""
    ssh_port: PositiveInt | None = None
    """Port of ssh on the hosts; what ssh itself is set to if not given."""
    threads_per_process: PositiveInt | Literal["auto"] = "auto"
    """CPU threads of each rank; `auto` shares this machine's cores evenly."""
    master_addr: str | None = None
    """Where the ranks meet; the hostfile's first host if not given."""
    master_port: PositiveInt = 29500
    """Port for the ranks to meet."""
    environment: dict[str, Word] = Field(default_factory=dict)
    """More environment variables."""


class TorchrunCluster(Config):
    """One machine or several through torchrun, started by `tarmac launch` on each."""

    type: Literal["torchrun"]
    """torchrun."""
    nodes: PositiveInt = 1
    """Number of machines."""
    endpoint: str | None = Field(default=None, pattern=PLACE_PATTERN)
    """Where several machines meet, host:port; the host is the first machine."""
    processes: PositiveInt | Literal["auto"] = "auto"
    """Ranks on each machine; `auto` is one per GPU, or 2 on a machine without GPUs."""
    threads_per_process: PositiveInt | Literal["auto"] = "auto"
    """CPU threads of each rank; `auto` shares the cores evenly."""
    environment: dict[str, Word] = Field(default_factory=dict)
    """More environment variables."""

    @model_validator(mode="after")
    def several_meet(self) -> "TorchrunCluster":
        """Several machines need a place to meet."""
        if self.nodes > 1 and self.endpoint is None:
            raise ValueError(f"nodes ({self.nodes}) must know where to meet; give endpoint, the first one's host:port")
        return self


class Container(Config):
    """An image that each task runs in; the working folder is there under its own name."""

    runtime: Literal["pyxis", "apptainer"]
    """`pyxis`: SLURM's plug-in for enroot; `apptainer`: the program, on each node."""
    image: str
    """What the runtime takes for one: a file, or the name of one in a registry."""
    mounts: tuple[str, ...] = ()
    """More folders that are to be seen inside, each FROM:TO or FROM:TO:ro."""
    python: str = "python"
    """The interpreter inside, which has Tarmac."""
    options: tuple[str, ...] = ()
    """More options: of srun for pyxis, of `apptainer exec`."""


class SlurmCluster(Config):
    """One srun task per GPU on a SLURM cluster."""

    type: Literal["slurm"]
    """SLURM."""
    nodes: PositiveInt
    """Number of nodes."""
    gpus_per_node: PositiveInt
    """GPUs, and so tasks, per node."""
    cpus_per_task: PositiveInt
    """CPU cores per task."""
    time: str = Field(pattern=TIME_PATTERN)
    """Time limit, [days-]hours:minutes:seconds."""
    partition: str | None = None
    """Partition."""
    account: str | None = None
    """Account."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Node features."""
    exclude: str | None = None
    """Nodes to leave out."""
    signal_seconds: NonNegativeInt = 120
    """SIGUSR1 comes so long before the time limit; all ranks save and the job is requeued."""
    requeue: bool = True
    """Put the job back in the queue when it was asked to stop, and after a hang or the death of a rank."""
    max_restarts: NonNegativeInt = 20
    """A hang or the death of a rank brings a job back that was started again so often at most, for whatever reason."""
    health: HealthCheck | None = HealthCheck()
    """Measure all nodes first, and leave out for the rest of the job's life who is not fit; null: do not."""
    master_port: Port | None = None
    """Port for the ranks to meet; null: one that the job's number gives, as jobs may share a node."""
    setup: tuple[str, ...] = ()
    """Shell lines before the job: modules, virtual environment."""
    environment: dict[str, Word] = Field(default_factory=dict)
    """More environment variables."""
    container: Container | None = None
    """Image that each task runs in."""
    cache_dir: str | None = Field(default=None, pattern=r"^[/$][\w./${}-]*$")
    """Folder on a disk of each node, for compiled code, temporary files and shards; $NAME is filled in there."""
    flight_recorder: NonNegativeInt = 2000
    """Collectives that each rank remembers, and writes beside the logs when one times out; 0 turns this off."""
    log_dir: str = "runs/slurm"
    """Folder of the job's output files."""

    @model_validator(mode="after")
    def time_is_left(self) -> "SlurmCluster":
        """The signal comes after the job has begun; else it would be requeued for ever."""
        days, _, clock = self.time.rpartition("-")
        hours, minutes, seconds = map(int, clock.split(":"))
        limit = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
        if self.signal_seconds >= limit:
            raise ValueError(f"signal_seconds ({self.signal_seconds}) must be below time ({self.time}, {limit} s)")
        return self

    @model_validator(mode="after")
    def cache_is_seen(self) -> "SlurmCluster":
        """A container sees the folder for caches, as far as its name tells where that is."""
        if self.cache_dir is None or self.cache_dir.startswith("$") or self.container is None:
            return self
        seen = [mount.split(":")[1] for mount in self.container.mounts if ":" in mount]
        if not any(f"{self.cache_dir}/".startswith(f"{folder.rstrip('/')}/") for folder in seen):
            raise ValueError(f"cache_dir ({self.cache_dir}) is in none of container.mounts; add one that it is in")
        return self


ProcessCluster = LocalCluster | DeepSpeedCluster | TorchrunCluster
"""Clusters on which `tarmac launch` lasts as long as the job."""
Cluster = Annotated[LocalCluster | DeepSpeedCluster | TorchrunCluster | SlurmCluster, Field(discriminator="type")]


class ClusterConfig(Config):
    """A cluster file."""

    cluster: Cluster
    """Where the job runs."""
