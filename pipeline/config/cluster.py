"""Where a job runs: on this machine, or on a SLURM cluster."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.config.base import Config


class LocalCluster(Config):
    """Processes on this machine, through DeepSpeed's launcher."""

    type: Literal["local"]
    """This machine."""
    processes: PositiveInt | Literal["auto"] = "auto"
    """Number of ranks; `auto` is one per GPU, or 2 on a machine without GPUs."""
    threads_per_process: PositiveInt | Literal["auto"] = "auto"
    """CPU threads of each rank; `auto` shares the cores evenly."""
    master_port: PositiveInt | None = None
    """Port for the ranks to meet; a free one if not given."""
    environment: dict[str, str] = Field(default_factory=dict)
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
    timeout_seconds: PositiveFloat = Field(default=100.0, lt=120)
    """How long ranks wait for each other."""


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
    time: str = Field(pattern=r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$")
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
    master_port: PositiveInt = 29500
    """Port for the ranks to meet."""
    setup: tuple[str, ...] = ()
    """Shell lines before the job: modules, virtual environment."""
    environment: dict[str, str] = Field(default_factory=dict)
    """More environment variables."""
    log_dir: str = "runs/slurm"
    """Folder of the job's output files."""


Cluster = Annotated[LocalCluster | SlurmCluster, Field(discriminator="type")]


class ClusterConfig(Config):
    """A cluster file."""

    cluster: Cluster
    """Where the job runs."""
