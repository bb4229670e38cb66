import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.occurrences import Occurrence, occurrences
from pipeline.data.phases import Change
from tests.unit.data.test_order import Run, order_of, runs


@given(runs(), st.integers(1, 12), st.integers(0, 3), st.data())
@settings(max_examples=60, deadline=None)
def test_every_reading_of_a_stretch_is_found_back(run: Run, more: int, skipped: int, data: st.DataObject) -> None:
    """In any phases, and over a skip at the end of them: what the order says of all steps, read backwards."""
    shards, _, _, changes = run
    last = (changes[-1].step if changes else 0) + more
    if skipped:
        changes.append(Change(last, skipped_steps=skipped))
    order = order_of(run)
    source = data.draw(st.sampled_from(sorted(shards)))
    shard = data.draw(st.integers(0, len(shards[source].num_positions) - 1))
    start = data.draw(st.integers(0, max(0, int(shards[source].num_positions[shard]) - 1)))
    stop = start + data.draw(st.integers(1, 40))
    expected = []
    for step in range(last + 2):
        for place, sample in enumerate(order.batch(step)):
            if (sample.at.source, sample.at.shard) == (source, shard):
                starts, stops, _ = order.cuts.pieces(sample.at).of(np.array([sample.sequence]))
                if ((starts < stop) & (stops > start)).any():
                    expected.append(Occurrence(step, place, sample.at, sample.sequence))
    assert list(occurrences(order_of(run), source, shard, start, stop, last + 2)) == expected
