"""Which of the job's processes this one is, from the environment any launcher sets."""

import os
from dataclasses import dataclass

from pipeline.errors import RunError


@dataclass(frozen=True)
class Ranks:
    """This process's place in the job."""

    rank: int
    """Number of this process, from 0."""
    local_rank: int
    """Number of this process on its node."""
    world_size: int
    """Number of processes."""

    @property
    def is_main(self) -> bool:
        """Whether this process speaks for the job."""
        return self.rank == 0


def ranks_from_environment() -> Ranks:
    """RANK, LOCAL_RANK and WORLD_SIZE as torchrun and deepspeed set them, else srun's, else a single process."""
    values = os.environ
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    if "RANK" not in values and int(values.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in values:
        names = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS")
    try:
        rank, local_rank, world_size = (
            int(values.get(name, default)) for name, default in zip(names, "001", strict=True)
        )
    except ValueError as error:
        raise RunError(f"{', '.join(names)} must be whole numbers: {error}") from error
    if not 0 <= rank < world_size:
        raise RunError(f"{names[0]} ({rank}) must be below {names[2]} ({world_size})")
    return Ranks(rank, local_rank, world_size)
