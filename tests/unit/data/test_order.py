import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.cuts import Cuts, Positions
from pipeline.data.mixture import integer_weights
from pipeline.data.order import Order, Sample
from pipeline.data.phases import Change, Past, Phase, Setting, SourceShare

NAMES = ("web", "code", "books", "maths")


class Shards:
    """A source whose shards are given by the lengths of their documents."""

    def __init__(self, shards: Sequence[Sequence[int]]) -> None:
        self.ends = [np.cumsum(lengths, dtype=np.int64) for lengths in shards]
        self.num_positions = np.array([max(0, sum(lengths) - 1) for lengths in shards], dtype=np.int64)

    def document_ends(self, shard: int) -> Positions:
        return self.ends[shard]


SHARD = st.lists(st.integers(1, 30), max_size=8)
SOURCES = st.dictionaries(
    st.sampled_from(NAMES),
    st.lists(SHARD, min_size=1, max_size=6).filter(lambda shards: any(sum(shard) > 1 for shard in shards)),
    min_size=1,
)


def setting_of(
    shards: dict[str, Shards], weights: Sequence[float], length: int, batch: int, packing: Any, **values: Any
) -> Setting:
    shares = zip(shards.items(), integer_weights(weights), strict=True)
    sources = (SourceShare(name, "", len(source.num_positions), weight) for (name, source), weight in shares)
    return Setting(tuple(sources), length, batch, packing, **values)


@st.composite
def settings_of(draw: st.DrawFn, shards: dict[str, Shards], counts: dict[str, int]) -> Setting:
    """A setting over some of the sources, each with as many shards as `counts` says, or with more, which it then says.

    The first ones have something to be read, so that an epoch is not empty.
    """
    names = draw(st.lists(st.sampled_from(sorted(shards)), min_size=1, unique=True))
    for name in names:
        positions = shards[name].num_positions
        least = max(counts.get(name, 0), int(np.flatnonzero(positions)[0]) + 1)
        counts[name] = draw(st.integers(least, len(positions)))
    weights = draw(st.lists(st.floats(0.05, 1), min_size=len(names), max_size=len(names)))
    shares = zip(names, integer_weights(weights), strict=True)
    sources = tuple(SourceShare(name, "", counts[name], weight) for name, weight in shares)
    packing = draw(st.sampled_from(["concat", "best_fit"]))
    return Setting(sources, draw(st.integers(1, 40)), draw(st.integers(1, 40)), packing)


Run = tuple[dict[str, Shards], int, Setting, list[Change]]


@st.composite
def runs(draw: st.DrawFn, most_changes: int = 5) -> Run:
    """Sources, seed, first setting, and changes at steps that rise."""
    shards = {name: Shards(one) for name, one in draw(SOURCES).items()}
    counts: dict[str, int] = {}
    first = draw(settings_of(shards, counts))
    step, changes = 0, []
    for _ in range(draw(st.integers(0, most_changes))):
        step += draw(st.integers(0, 4))
        changes.append(Change(step, draw(settings_of(shards, counts))))
    return shards, draw(st.integers(0, 2**32)), first, changes


def order_of(run: Run) -> Order:
    shards, seed, first, changes = run
    return Order(Cuts(shards, seed), seed, [Phase(0, 0, first)], changes)


def positions_of(cuts: Cuts, sample: Sample) -> list[int]:
    starts, stops, _ = cuts.pieces(sample.at).of(np.array([sample.sequence]))
    return [place for start, stop in zip(starts.tolist(), stops.tolist(), strict=True) for place in range(start, stop)]


@given(runs())
@settings(max_examples=200, deadline=None)
def test_every_position_comes_once_per_epoch_whatever_changes(run: Run) -> None:
    """Length, packing, weights, batch, sources that come, go and return, shards that are appended."""
    shards, seed, first, changes = run
    order, cuts = order_of(run), Cuts(shards, seed)
    found: dict[str, defaultdict[int, Counter[tuple[int, int]]]] = {}
    for step in range((changes[-1].step if changes else 0) + 6):
        batch, setting = order.batch(step), order.phase(step).setting
        assert len(batch) == setting.global_batch
        for sample in batch:
            places = positions_of(cuts, sample)
            assert 1 <= len(places) <= setting.sequence_length
            epochs = found.setdefault(sample.at.source, defaultdict(Counter))
            epochs[sample.at.epoch].update((sample.at.shard, place) for place in places)
    for name, epochs in found.items():
        counts = {one.num_shards for setting in (first, *(change.setting for change in changes))
                  for one in setting.sources if one.name == name}  # fmt: skip
        wholes = [shard_positions(shards[name], count) for count in counts]
        assert sorted(epochs) == list(range(len(epochs)))
        for epoch in sorted(epochs)[:-1]:
            assert epochs[epoch] in [Counter(whole) for whole in wholes]
        last = epochs[max(epochs)]
        assert set(last.values()) == {1}
        assert any(set(last) <= whole for whole in wholes)


def shard_positions(source: Shards, count: int) -> set[tuple[int, int]]:
    return {(shard, place) for shard, n in enumerate(source.num_positions[:count]) for place in range(n)}


@given(runs(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_run_goes_on_from_what_is_saved_at_any_step(run: Run, data: st.DataObject) -> None:
    """With nothing but that and the changes to come, whatever was asked before; and without the bookmarks."""
    shards, seed, _, changes = run
    last = (changes[-1].step if changes else 0) + 6
    whole = order_of(run)
    batches = [whole.batch(step) for step in range(last)]
    kill = data.draw(st.integers(1, last - 1))
    past = Past.from_json(json.loads(json.dumps(order_of(run).past(kill).to_json())))
    to_come = [change for change in changes if change.step >= kill]
    for bookmarks in (past.bookmarks, {}):
        again = Order(Cuts(shards, seed), seed, past.phases, to_come, bookmarks)
        steps = data.draw(st.permutations(range(last)))
        assert {step: again.batch(step) for step in steps} == dict(enumerate(batches))
        assert again.phases(last) == whole.phases(last)
        assert again.past(last) == whole.past(last)


def test_packed_shards_that_were_passed_are_not_packed_again() -> None:
    """Neither after a kill nor where steps are skipped in one mixture."""
    shards = {"web": Shards([[3] * 20] * 12)}
    setting = setting_of(shards, [1], 6, 10, "best_fit")
    skip = Change(10, skipped_steps=1)
    past = Order(Cuts(shards, 1), 1, [Phase(0, 0, setting)]).past(10)
    cuts = Cuts(shards, 1, cached=1)
    packed: list[int] = []
    shards["web"].document_ends = lambda shard: packed.append(shard) or shards["web"].ends[shard]  # type: ignore
    Order(cuts, 1, past.phases, [skip], past.bookmarks).batch(10)
    assert len(packed) <= 4


def with_skips(changes: Sequence[Change], passed: set[int], last: int) -> list[Change]:
    """Changes that make [0, last) the same steps but for those that are passed over, which then have no number."""
    told: list[Change] = []
    for step in range(last):
        now = len(set(range(step)) - passed)
        told += [replace(change, step=now) for change in changes if change.step == step]
        if step in passed:
            skipped = told.pop().skipped_steps if told and told[-1].step == now and told[-1].skipped_steps else 0
            told.append(Change(now, skipped_steps=skipped + 1))
    return told


@given(runs(most_changes=3), st.sets(st.integers(0, 16)))
@settings(max_examples=60, deadline=None)
def test_skips_pass_over_just_the_samples_of_their_steps(run: Run, passed: set[int]) -> None:
    """However many, right before and behind changes too: what is left comes as it would have, with the same numbers."""
    shards, seed, first, changes = run
    last = (changes[-1].step if changes else 0) + 6
    plain, skipping = order_of(run), order_of((shards, seed, first, with_skips(changes, passed, last)))
    kept = [step for step in range(last) if step not in passed]
    assert [skipping.batch(now) for now in range(len(kept))] == [plain.batch(step) for step in kept]


@given(runs(most_changes=3), st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_one_shard_of_a_source_is_open_at_a_time(run: Run, last: int) -> None:
    order = order_of(run)
    visits = defaultdict(list)
    for step in range(last):
        for sample in order.batch(step):
            visits[sample.at.source].append((sample.at.epoch, sample.at.shard))
    for places in visits.values():
        changes = [visit for visit, before in zip(places, [None, *places], strict=False) if visit != before]
        assert len(set(changes)) == len(changes)


@given(runs(most_changes=0), st.integers(1, 500))
@settings(max_examples=40, deadline=None)
def test_cursors_and_epochs_say_what_is_used_up(run: Run, step: int) -> None:
    shards, seed, _, _ = run
    order, cuts = order_of(run), Cuts(shards, seed)
    step = min(step, 1 + 400 // order.phase(0).setting.global_batch)
    used = Counter[str]()
    for earlier in range(step):
        for sample in order.batch(earlier):
            used[sample.at.source] += len(positions_of(cuts, sample))
    for name, epochs in order.epochs(step).items():
        total = shards[name].num_positions[: order.phase(0).setting.sources[0].num_shards]
        share = next(one for one in order.phase(0).setting.sources if one.name == name)
        total = int(shards[name].num_positions[: share.num_shards].sum())
        assert abs(epochs - used[name] / total) < 0.5  # within a shard, sequences of different sizes count alike
    assert all(cursor.taken >= 0 for cursor in order.cursors(step).values())


def test_golden_values() -> None:
    """The order never changes: a run of today goes on with the code of tomorrow."""
    shards = {"web": Shards([[700, 300], [2000]]), "code": Shards([[50] * 30])}
    first = setting_of(shards, [3, 1], 64, 6, "concat")
    longer = setting_of(shards, [1, 1], 100, 5, "best_fit")
    order = Order(Cuts(shards, 7), 7, [Phase(0, 0, first)], [Change(4, longer), Change(9, longer, 3)])
    found = [
        (s.at.source[0], s.at.epoch, s.at.shard, s.sequence) for step in (0, 3, 4, 8, 9) for s in order.batch(step)
    ]
    assert found == GOLDEN


def test_windows_come_in_the_order_of_version_1() -> None:
    """What was trained before there were cuts goes on: these values are those of then."""
    shards = {"web": Shards([[6], [4], [8]]), "code": Shards([[5]])}
    order = Order(Cuts(shards, 17), 17, [Phase(0, 0, setting_of(shards, [3, 1], 1, 8, "concat"))])
    found = [(s.at.source[0], s.at.epoch, s.at.shard, s.sequence) for step in (0, 3) for s in order.batch(step)]
    assert found == WINDOWS_OF_VERSION_1


# fmt: off
WINDOWS_OF_VERSION_1 = [
    ("w", 0, 0, 4), ("w", 0, 0, 2), ("w", 0, 0, 1), ("w", 0, 0, 0), ("c", 0, 0, 3), ("w", 0, 0, 3), ("w", 0, 2, 5),
    ("c", 0, 0, 2), ("c", 1, 0, 0), ("w", 1, 0, 3), ("c", 2, 0, 1), ("w", 1, 0, 1), ("w", 1, 0, 0), ("w", 1, 1, 2),
    ("c", 2, 0, 3), ("w", 1, 1, 1),
]

GOLDEN = [
    ("w", 0, 1, 11), ("c", 0, 0, 16), ("w", 0, 1, 21), ("w", 0, 1, 15), ("c", 0, 0, 5), ("w", 0, 1, 1),
    ("w", 0, 1, 22), ("c", 0, 0, 13), ("w", 0, 1, 19), ("w", 0, 1, 12), ("c", 0, 0, 17), ("w", 0, 1, 9),
    ("c", 0, 0, 2), ("c", 0, 0, 4), ("c", 0, 0, 10), ("w", 0, 1, 3), ("c", 0, 0, 5), ("c", 0, 0, 11), ("c", 1, 0, 7),
    ("w", 0, 0, 6), ("w", 0, 0, 5), ("c", 1, 0, 13), ("w", 0, 0, 1), ("w", 1, 0, 0), ("c", 1, 0, 2), ("c", 1, 0, 1),
    ("w", 1, 0, 8),
]
# fmt: on
