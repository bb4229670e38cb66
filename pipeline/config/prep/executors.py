"""Where the work runs. Results do not depend on it."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from pipeline.config.base import Config


class LocalExecutor(Config):
    """Worker processes on this machine."""

    type: Literal["local"]
    """The executor."""


class RayExecutor(Config):
    """Tasks of a Ray cluster that sees the same folders, or of a Ray started here."""

    type: Literal["ray"]
    """The executor."""
    address: Annotated[str, Field(pattern=r"^(auto|[^/]+:\d+)$")] | None = None
    """HOST:PORT of a cluster's head, or `auto` on one of its nodes; a Ray is started on this machine if not given."""
    memory_gb: PositiveInt = 2
    """Memory that a task asks for."""


class SlurmExecutor(Config):
    """Job arrays of a SLURM cluster whose nodes see the same folders."""

    type: Literal["slurm"]
    """The executor."""
    tasks_per_job: PositiveInt = 1
    """Tasks that one array task runs, one after the other."""
    max_array_size: PositiveInt = 1000
    """Array tasks of one job; `scontrol show config` calls it MaxArraySize."""
    partition: str | None = None
    """Partition; the cluster's default if not given."""
    account: str | None = None
    """Account; the user's default if not given."""
    time: str = "04:00:00"
    """Limit of an array task."""
    memory_gb: PositiveInt = 2
    """Memory of an array task."""
    sbatch: dict[str, str] = Field(default_factory=dict)
    """More options of sbatch, such as `{qos: low}`."""
    poll_seconds: PositiveInt = 5
    """How often finished tasks are looked for."""


Executor = Annotated[LocalExecutor | RayExecutor | SlurmExecutor, Field(discriminator="type")]
