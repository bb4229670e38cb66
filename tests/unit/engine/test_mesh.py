"""Ranks that share rows: each share of the data has as many of them, and each of them another stretch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.engine import Engine
from pipeline.engine.mesh import mesh_of
from pipeline.errors import RunError


@given(st.integers(1, 6), st.integers(1, 6))
def test_every_stretch_of_every_share_has_one_rank(sequence_size: int, shares: int) -> None:
    engine, world_size = Engine(sequence_parallel=sequence_size), sequence_size * shares
    meshes = [mesh_of(engine, rank, world_size) for rank in range(world_size)]
    places = [(mesh.data_rank, mesh.sequence_rank) for mesh in meshes]
    assert places == [(share, stretch) for share in range(shares) for stretch in range(sequence_size)]
    assert {(mesh.data_world_size, mesh.ranks_per_row) for mesh in meshes} == {(shares, sequence_size)}


def test_ranks_that_do_not_divide_are_refused() -> None:
    message = r"^engine.sequence_parallel \(2\) must divide the number of ranks \(3\); change the one or the other$"
    with pytest.raises(RunError, match=message):
        mesh_of(Engine(sequence_parallel=2), 0, 3)
