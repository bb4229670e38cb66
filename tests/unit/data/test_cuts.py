"""What is kept of what was worked out about shards."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.cuts import Cut, Cuts, Positions, ShardCut, Taken
from tests.unit.data.test_order import Shards

SHARDS = 9
PACKED = Cut(8, "best_fit")


class Counting:
    """A source that tells which shards were packed."""

    num_positions = np.full(SHARDS, 40, dtype=np.int64)

    def __init__(self) -> None:
        self.packed: list[int] = []

    def document_ends(self, shard: int) -> Positions:
        self.packed.append(shard)
        return np.array([5, 5 + shard, 41], dtype=np.int64)


def test_a_shard_is_packed_once_to_tell_its_size_in_every_epoch() -> None:
    source = Counting()
    cuts = Cuts({"web": source}, seed=0)
    sizes = [[cuts.size(ShardCut("web", epoch, shard, PACKED)) for shard in range(SHARDS)] for epoch in range(3)]
    assert source.packed == list(range(SHARDS))
    assert all(one == other for one, other in pairwise(sizes))
    assert sizes[0] == [len(cuts.pieces(ShardCut("web", 0, shard, PACKED))) for shard in range(SHARDS)]


def test_only_the_last_shards_of_each_source_are_kept() -> None:
    """Of one with many documents they take megabytes."""
    sources = {"web": Counting(), "code": Counting()}
    cuts = Cuts(sources, seed=0, cached=2)
    for shard in (*range(SHARDS), SHARDS - 2, SHARDS - 1, 0):
        for name in sources:
            cuts.pieces(ShardCut(name, 0, shard, PACKED))
    assert [source.packed for source in sources.values()] == [[*range(SHARDS), 0]] * 2


@pytest.mark.parametrize("earlier", [Cut(64, "concat"), Cut(48, "best_fit")])
def test_what_is_left_of_a_shard_is_packed_as_documents(earlier: Cut) -> None:
    """Not as the pieces that the cut before made of them: a document of which all is left stays whole."""
    lengths = np.random.default_rng(3).integers(5, 90, 400)
    source = Shards([lengths.tolist()])
    cuts = Cuts({"web": source}, 1)
    at = ShardCut("web", 0, 0, Cut(96, "best_fit"), (Taken(earlier, 100),))
    starts, stops = cuts.untaken(at._replace(cut=earlier, earlier=()), 100)
    left = {place for start, stop in zip(starts.tolist(), stops.tolist(), strict=True) for place in range(start, stop)}
    pieces = cuts.pieces(at)
    found = set(zip(pieces.starts.tolist(), pieces.stops.tolist(), strict=True))
    documents = pairwise([0, *source.ends[0].tolist()])
    whole = [(start, stop) for start, stop in documents if left.issuperset(range(start, stop))]
    assert len(whole) > 100
    assert found.issuperset(whole)
    assert (pieces.stops - pieces.starts).sum() == len(left) >= 0.98 * len(pieces) * 96


@given(
    st.lists(st.integers(1, 30), max_size=8),
    st.lists(st.tuples(st.sampled_from(["concat", "best_fit"]), st.integers(1, 40), st.integers(1, 6)), max_size=5),
    st.integers(0, 9),
)
def test_the_size_of_windows_is_known_before_they_are_cut(
    lengths: list[int], cuts_made: list[tuple[Any, int, int]], seed: int
) -> None:
    """Also of what several cuts have left of a shard."""
    cuts, earlier = Cuts({"web": Shards([lengths])}, seed), tuple[Taken, ...]()
    for packing, length, taken in cuts_made:
        at = ShardCut("web", 0, 0, Cut(length, packing), earlier)
        assert cuts.size(at) == len(cuts.pieces(at))
        if taken < cuts.size(at):
            earlier = (*earlier, Taken(at.cut, taken))
