"""How often a source has been gone through, as the order tells it."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.cuts import Cuts
from tests.unit.data.test_order import Run, order_of, positions_of, runs


@given(runs(most_changes=3), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_epochs_are_the_share_of_positions_that_have_come(run: Run, step: int) -> None:
    """Also in a shard that was cut anew, of which the positions that came before count as well."""
    order, cuts = order_of(run), Cuts(run[0], run[1])
    used = Counter[tuple[str, int]]()
    for earlier in range(step):
        for sample in order.batch(earlier):
            used[sample.at.source, sample.at.epoch] += len(positions_of(cuts, sample))
    cursors, shares = order.cursors(step), {one.name: one for one in order.phase(step).setting.sources}
    for name, epochs in order.epochs(step).items():
        cursor = cursors[name]
        positions = run[0][name].num_positions[: cursor.num_shards or shares[name].num_shards]
        assert epochs == pytest.approx(cursor.epoch + used[name, cursor.epoch] / int(positions.sum()))
