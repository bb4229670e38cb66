"""Which ranks take the same rows of a global batch, and what each does with them.

Neighbours share rows: of `s` ranks to a sequence, ranks [n s, (n + 1) s) take those of data rank n.
"""

from dataclasses import dataclass

from pipeline.config.engine import Engine
from pipeline.errors import RunError


@dataclass(frozen=True)
class Mesh:
    """A rank's place among those that share its rows. All other modules take shares of data by data ranks."""

    rank: int
    world_size: int
    sequence_size: int
    """Ranks that share a sequence, each with a stretch of it."""

    @property
    def data_rank(self) -> int:
        """Number of the ranks that take the same rows, from 0."""
        return self.rank // self.sequence_size

    @property
    def data_world_size(self) -> int:
        """How many shares of rows there are."""
        return self.world_size // self.sequence_size

    @property
    def sequence_rank(self) -> int:
        """Which stretch of its sequences this rank takes."""
        return self.rank % self.sequence_size

    @property
    def ranks_per_row(self) -> int:
        """Ranks that take the same row: a sum over ranks of what each counts in whole rows is so many times it."""
        return self.sequence_size


def mesh_of(engine: Engine, rank: int, world_size: int) -> Mesh:
    """A rank's mesh. Raises RunError where ranks do not divide evenly."""
    if world_size % engine.sequence_parallel:
        raise RunError(
            f"engine.sequence_parallel ({engine.sequence_parallel}) must divide the number of ranks ({world_size});"
            " change the one or the other"
        )
    return Mesh(rank, world_size, engine.sequence_parallel)
