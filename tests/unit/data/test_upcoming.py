"""Which shards come next: those that are then opened, named before any of them is opened."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.ahead import first_shards
from pipeline.data.cuts import Cuts, Positions
from pipeline.data.order import Order
from pipeline.data.phases import Change, Phase
from tests.unit.data.test_order import SOURCES, Shards, setting_of


class Watched(Shards):
    """Shards that tell which of them were opened."""

    def __init__(self, shards: Sequence[Sequence[int]]) -> None:
        super().__init__(shards)
        self.opened: set[int] = set()

    def document_ends(self, shard: int) -> Positions:
        self.opened.add(shard)
        return super().document_ends(shard)


@given(SOURCES, st.data())
@settings(max_examples=150, deadline=None)
def test_just_the_shards_that_are_used_next_in_their_order(
    lengths: dict[str, list[list[int]]], data: st.DataObject
) -> None:
    """Of one phase, and of one that begins in the middle of a shard with another cut; whatever the packing."""
    shards = {name: Watched(one) for name, one in lengths.items()}
    weights = data.draw(st.lists(st.floats(0.1, 1), min_size=len(shards), max_size=len(shards)))
    length, batch = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 9))
    packing = data.draw(st.sampled_from(["concat", "best_fit"]))
    first = setting_of(shards, weights, length, batch, packing)
    recut = [Change(data.draw(st.integers(1, 6)), setting_of(shards, weights, length + 3, batch, packing))]
    changes = recut if data.draw(st.booleans()) else []
    order = Order(Cuts(shards, 7), 7, [Phase(0, 0, first)], changes)
    step, number = data.draw(st.integers(0, 8)), data.draw(st.integers(1, 4))
    for before in range(step):
        order.batch(before)
    order.phase(step)  # a recut looks at the shards that are open
    already = {name: set(one.opened) for name, one in shards.items()}
    named = order.upcoming(step, number)
    assert {name: set(one.opened) for name, one in shards.items()} == already

    used: dict[str, list[int]] = {name: [] for name in shards}
    for later in range(step, step + 400):
        for sample in order.batch(later):
            if sample.at.shard not in used[sample.at.source]:
                used[sample.at.source].append(sample.at.shard)
        if all(len(used[name]) >= len(named[name]) for name in shards):
            break
    assert {name: found[: len(named[name])] for name, found in used.items()} == named
    for name, one in shards.items():
        readable = int((one.num_positions > 0).sum())
        assert len(named[name]) == min(number, readable)


def test_a_source_without_weight_is_not_fetched() -> None:
    shards = {"web": Shards([[30]]), "code": Shards([[30]])}
    order = Order(Cuts(shards, 1), 1, [Phase(0, 0, setting_of(shards, [1, 0], 4, 2, "concat"))])
    assert order.upcoming(3, 2) == {"web": [0]}


def test_of_what_comes_only_the_next_phase_is_worked_out() -> None:
    """Behind one that packs, others could be told only by packing all of it."""
    shards = {"web": Watched([[30] * 5] * 20)}
    settings_to_come = [(10, "best_fit"), (40, "concat")]
    changes = [Change(step, setting_of(shards, [1], 8, 2, packing)) for step, packing in settings_to_come]
    order = Order(Cuts(shards, 1), 1, [Phase(0, 0, setting_of(shards, [1], 4, 2, "concat"))], changes)
    assert [order.next_begin(step) for step in (0, 9, 10, 40)] == [10, 10, 40, None]
    [(_, shard)] = first_shards(order, 0)
    assert not shards["web"].opened
    assert shard == order.batch(10)[0].at.shard
