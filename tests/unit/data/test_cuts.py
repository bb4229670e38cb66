"""What is kept of what was worked out about shards."""

from itertools import pairwise

import numpy as np

from pipeline.data.cuts import Cut, Cuts, Positions, ShardCut

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
