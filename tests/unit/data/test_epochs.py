"""How often a source has been gone through, as the order tells it."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.cuts import Cuts, Positions
from pipeline.data.order import Order
from pipeline.data.phases import Phase
from tests.unit.data.test_order import Run, Shards, order_of, positions_of, runs


@given(runs(most_changes=3), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_epochs_are_the_share_of_positions_that_have_come(run: Run, step: int) -> None:
    """Also in a shard that was cut anew, and of a source that has left."""
    order, cuts = order_of(run), Cuts(run[0], run[1])
    used = Counter[tuple[str, int]]()
    for earlier in range(step):
        for sample in order.batch(earlier):
            used[sample.at.source, sample.at.epoch] += len(positions_of(cuts, sample))
    cursors = dict(order.phase(step).cursors) | order.cursors(step)
    shares = {one.name: one for phase in order.phases(step) for one in phase.setting.sources}
    epochs = order.epochs(step)
    assert epochs.keys() == shares.keys()
    for name, cursor in cursors.items():
        positions = run[0][name].num_positions[: cursor.num_shards or shares[name].num_shards]
        assert epochs[name] == pytest.approx(cursor.epoch + used[name, cursor.epoch] / int(positions.sum()))


class _Closed(Shards):
    """Shards that nobody may open."""

    def __init__(self, num_positions: Positions) -> None:
        self.num_positions = num_positions

    def document_ends(self, shard: int) -> Positions:
        raise AssertionError("a shard was opened")


@given(runs(most_changes=3), st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_windows_in_place_of_bins_open_no_shard(run: Run, made: int, step: int) -> None:
    """They come alike of a new run and of one that has made some steps; a run without bins is what it was."""
    shards, seed, first, changes = run
    closed = {name: _Closed(one.num_positions) for name, one in shards.items()}
    new = Order(Cuts(closed, seed), seed, [Phase(0, 0, first)], changes).in_windows()
    table, whole = order_of(run).phases(made), order_of(run)
    resumed = Order(Cuts(closed, seed), seed, table, [change for change in changes if change.step > made]).in_windows()
    assert [new.batch(one) for one in range(step)] == [resumed.batch(one) for one in range(step)]
    assert new.epochs(step) == resumed.epochs(step)
    if all(phase.setting.packing == "concat" for phase in whole.phases(step)):
        assert new.batch(step) == whole.batch(step)
