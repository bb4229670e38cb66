"""The claim of docs/design/order.md as a whole: changes, skips, kills and other ranks, all in one run."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.batch import Rows
from pipeline.data.cuts import Cuts, Pieces, Positions, ShardCut
from pipeline.data.loader import Loader, Share
from pipeline.data.order import Order
from pipeline.data.phases import Past, Phase
from tests.unit.data.test_order import NAMES, Run, Shards, order_of, positions_of, runs, with_skips

PAD = -1


def token(source: str, shard: int, place: int) -> int:
    """A token that tells where it is from."""
    return (10 * NAMES.index(source) + shard) * 1000 + place


class Told:
    """Sequences of tokens that tell where they are from."""

    def __init__(self, shards: dict[str, Shards]) -> None:
        self.shards = shards

    def fingerprint(self, source: str, num_shards: int) -> str:
        return ""

    def fill(self, rows: Rows, which: Positions, at: ShardCut, pieces: Pieces, sequences: Positions) -> None:
        rows.clear(which)
        for row, sequence in zip(which.tolist(), sequences.tolist(), strict=True):
            starts, stops, _ = pieces.of(np.array([sequence]))
            read = [token(at.source, at.shard, n) for piece in zip(starts, stops, strict=True) for n in range(*piece)]
            rows.inputs[row, : len(read)] = read


SESSION = st.tuples(st.integers(0, 4), st.integers(1, 64), st.integers(1, 7))
"""Steps up to a kill, ranks, and sequences in a micro batch."""


@given(runs(most_changes=3), st.sets(st.integers(0, 8)), st.lists(SESSION, min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)
def test_ranks_that_come_and_go_read_the_run_that_nobody_stopped(
    run: Run, passed: set[int], sessions: list[tuple[int, int, int]]
) -> None:
    """Sample for sample and in order, each session knowing but what the last one saved, as JSON."""
    shards, seed, first, plain = run
    changes = with_skips(plain, passed, 20)
    whole = order_of((shards, seed, first, changes))
    past = Past(0, (Phase(0, 0, first),))
    for number, world_size, micro_size in sessions:
        begin, coming = past.step, [change for change in changes if change.step >= past.step]
        order = Order(Cuts(shards, seed), seed, past.phases, coming, past.bookmarks)
        ranks = [Loader(Told(shards), order, Share(rank, world_size, micro_size), PAD) for rank in range(world_size)]
        for step in range(begin, begin + number):
            turns = zip(*(rank.batch(step).micro_batches for rank in ranks), strict=True)  # as many on every rank
            rows = [row for turn in turns for micro in turn for row in micro.input_ids.tolist()]
            read = [[one for one in row if one != PAD] for row in rows]
            expected = [
                [token(sample.at.source, sample.at.shard, place) for place in positions_of(whole.cuts, sample)]
                for sample in whole.batch(step)
            ]
            assert read == expected + [[]] * (len(rows) - len(expected))
        if begin + number:
            past = Past.from_json(json.loads(json.dumps(order.past(begin + number).to_json())))
