"""What a change leaves as it was: the order of each source, cursors of what was not begun, and what is told of it."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.cuts import Cuts
from pipeline.data.order import Order
from pipeline.data.phases import Change, Cursor, Phase, Setting
from tests.unit.data.test_order import Run, Shards, order_of, positions_of, runs, setting_of

PAGES = {"web": Shards([[9] * 9, [4, 30, 2] * 3, [50, 8]]), "code": Shards([[5] * 20])}


def begun(first: Setting, changes: Sequence[Change] = (), seed: int = 7) -> Order:
    return Order(Cuts(PAGES, seed), seed, [Phase(0, 0, first)], changes)


def by_source(order: Order, steps: int) -> dict[str, list[Any]]:
    found = defaultdict(list)
    for step in range(steps):
        for sample in order.batch(step):
            found[sample.at.source].append((sample.at, sample.sequence))
    return found


@given(runs(most_changes=0), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.randoms()), max_size=4))
@settings(max_examples=30)
def test_other_weights_and_batches_leave_the_order_of_each_source(
    run: Run, changes: list[tuple[int, int, Any]]
) -> None:
    shards, seed, first, _ = run
    step, told = 0, []
    for more, batch, random in changes:
        step += more
        weights = [one.weight for one in first.sources]
        random.shuffle(weights)
        sources = (replace(one, weight=weight) for one, weight in zip(first.sources, weights, strict=True))
        told.append(Change(step, replace(first, sources=tuple(sources), global_batch=batch)))
    plain, changed = (by_source(order_of((shards, seed, first, one)), step + 4) for one in ([], told))
    for name in plain.keys() & changed.keys():
        number = min(len(plain[name]), len(changed[name]))
        assert plain[name][:number] == changed[name][:number]


def test_a_source_that_was_not_begun_gets_the_shards_that_were_appended() -> None:
    """A new cut leaves it at its beginning; one that was begun goes on with the shards that it had."""
    first = setting_of(PAGES, [1, 0], 4, 2, "concat")
    one = replace(first.sources[0], num_shards=2)
    fewer = replace(first, sources=(one, first.sources[1]))
    table = begun(fewer, [Change(1, replace(fewer, sequence_length=6)), Change(1, replace(first, packing="best_fit"))])
    cursors = dict(table.phase(1).cursors)
    assert cursors["code"] == Cursor()
    assert cursors["web"].num_shards == 2
    assert [taken.cut.sequence_length for taken in cursors["web"].earlier] == [4]
    untouched = dict(begun(fewer, [Change(0, first)]).phase(0).cursors)
    assert untouched["web"] == Cursor()


def test_a_source_that_was_begun_keeps_its_shards_wherever_it_stands() -> None:
    """In its first shard, behind it, and in one that was cut anew."""
    sources = setting_of(PAGES, [1, 0], 4, 1, "concat").sources
    fewer = Setting((replace(sources[0], num_shards=2), sources[1]), 4, 1)
    for step in range(1, 41):
        shares = begun(fewer, [Change(step, replace(fewer, sources=sources))])
        cursor = dict(shares.phase(step).cursors)["web"]
        is_begun = (cursor.place, cursor.taken) != (0, 0)
        assert cursor.num_shards == (2 if is_begun else None)
        recut = Change(step, replace(fewer, sequence_length=5))
        later = dict(begun(fewer, [recut, Change(step, replace(fewer, sources=sources))]).phase(step).cursors)["web"]
        assert later.num_shards == cursor.num_shards


def test_a_source_that_came_again_and_left_is_told() -> None:
    both = setting_of(PAGES, [1, 1], 4, 10, "concat")
    web = replace(both, sources=both.sources[:1])
    order = begun(both, [Change(8, web)])
    assert order.repeated(4) == []
    assert order.repeated(8) == order.repeated(9) == ["code"]


def test_a_phase_tells_what_was_skipped_before_it() -> None:
    first = setting_of(PAGES, [1, 1], 4, 2, "concat")
    order = begun(first, [Change(2, replace(first, sequence_length=5), skipped_steps=3), Change(3, None, 1)])
    assert [(one.first_sample, one.skipped_steps) for one in order.phases(3)] == [(0, 0), (10, 3), (14, 1)]


def test_golden_values_of_a_shard_that_is_cut_many_times() -> None:
    """What comes of such a shard never changes: sha256 over source, epoch, shard and positions of each sample."""
    cuts = [(4, "concat"), (7, "best_fit"), (7, "concat"), (5, "concat"), (30, "best_fit"), (3, "best_fit")]
    settings = [setting_of(PAGES, [2, 1], length, 3, packing) for length, packing in cuts]
    order = begun(settings[0], [Change(2 * n + 2, one) for n, one in enumerate(settings[1:])])
    samples = [sample for step in range(16) for sample in order.batch(step)]
    assert max(len(sample.at.earlier) for sample in samples) > 3
    told = [(one.at.source, one.at.epoch, one.at.shard, positions_of(order.cuts, one)) for one in samples]
    assert hashlib.sha256(repr(told).encode()).hexdigest() == (
        "bc414c64c5cb6c43603782f21ee27cf367d1b715335f4a84276b629425abc1aa"
    )
