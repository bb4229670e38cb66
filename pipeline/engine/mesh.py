"""Which ranks take the same rows of a global batch, and what each does with them.

Neighbours share rows: of `n` ranks to a row, ranks [d n, (d + 1) n) take those of data rank d. They share either the
sequence, each with a stretch of it, or the layers, each with a part of their weights.
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
    tensor_size: int = 1
    """Ranks that share layers, each with a part of their weights and the whole sequence."""

    @property
    def ranks_per_row(self) -> int:
        """Ranks that take the same row: a sum over ranks of what each counts in whole rows is so many times it."""
        return self.sequence_size * self.tensor_size

    @property
    def data_rank(self) -> int:
        """Number of the ranks that take the same rows, from 0."""
        return self.rank // self.ranks_per_row

    @property
    def data_world_size(self) -> int:
        """How many shares of rows there are."""
        return self.world_size // self.ranks_per_row

    @property
    def sequence_rank(self) -> int:
        """Which stretch of its sequences this rank takes."""
        return self.rank // self.tensor_size % self.sequence_size

    @property
    def tensor_rank(self) -> int:
        """Which part of the layers this rank holds."""
        return self.rank % self.tensor_size

    @property
    def gradient_rank(self) -> int:
        """This rank's number among those over which its weights' gradients are averaged."""
        return self.rank // self.tensor_size

    @property
    def gradient_world_size(self) -> int:
        """Ranks over which a weight's gradient is averaged: all that hold the weight and have other tokens."""
        return self.world_size // self.tensor_size


def mesh_of(engine: Engine, rank: int, world_size: int) -> Mesh:
    """A rank's mesh. Raises RunError where ranks do not divide evenly."""
    for name in ("sequence_parallel", "tensor_parallel"):
        if world_size % (size := getattr(engine, name)):
            raise RunError(
                f"engine.{name} ({size}) must divide the number of ranks ({world_size}); change the one or the other"
            )
    return Mesh(rank, world_size, engine.sequence_parallel, engine.tensor_parallel)
