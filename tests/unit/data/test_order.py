from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.mixture import integer_weights
from pipeline.data.order import Order, Sample
from pipeline.data.phases import Cursor, Phase, PhaseSource, phase_at

SHARDS = st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any)
SHAPES = st.dictionaries(st.sampled_from(["web", "code", "books", "maths"]), SHARDS, min_size=1)


def phase_of(shapes: Mapping[str, Sequence[int]], weights: Sequence[float], global_batch: int) -> Phase:
    shares = zip(shapes, integer_weights(weights), strict=True)
    return Phase(0, 0, tuple(PhaseSource(name, "0" * 64, share) for name, share in shares), 8, global_batch)


def stream(order: Order, first: int, last: int) -> dict[str, list[Sample]]:
    """Each source's samples in steps [first, last)."""
    found = defaultdict(list)
    for step in range(first, last):
        for sample in order.batch(step):
            found[sample.source].append(sample)
    return found


@st.composite
def orders(draw: st.DrawFn) -> tuple[dict[str, list[int]], Phase, int]:
    shapes = draw(SHAPES)
    weights = draw(st.lists(st.floats(0.05, 1), min_size=len(shapes), max_size=len(shapes)))
    return shapes, phase_of(shapes, weights, draw(st.integers(1, 40))), draw(st.integers(0, 2**32))


@given(orders())
@settings(max_examples=60)
def test_every_sequence_of_a_source_comes_once_per_epoch(case: tuple[dict[str, list[int]], Phase, int]) -> None:
    shapes, phase, seed = case
    order = Order(shapes, seed, [phase])
    found = stream(order, 0, 1 + 300 // phase.global_batch)
    for name, samples in found.items():
        everything = {(shard, sequence) for shard, size in enumerate(shapes[name]) for sequence in range(size)}
        by_epoch = defaultdict(list)
        for sample in samples:
            by_epoch[sample.epoch].append((sample.shard, sample.sequence))
        for epoch in sorted(by_epoch)[:-1]:
            assert Counter(by_epoch[epoch]) == Counter(everything)
        last = by_epoch[max(by_epoch)]
        assert len(set(last)) == len(last)
        assert set(last) <= everything
        assert sorted(by_epoch) == list(range(len(by_epoch)))


@given(orders())
@settings(max_examples=30)
def test_one_shard_of_a_source_is_open_at_a_time(case: tuple[dict[str, list[int]], Phase, int]) -> None:
    shapes, phase, seed = case
    for samples in stream(Order(shapes, seed, [phase]), 0, 1 + 200 // phase.global_batch).values():
        visits = [(sample.epoch, sample.shard) for sample in samples]
        changes = [visit for visit, before in zip(visits, [None, *visits], strict=False) if visit != before]
        assert len(set(changes)) == len(changes)


@given(orders())
@settings(max_examples=30)
def test_a_step_does_not_depend_on_what_was_asked_before(case: tuple[dict[str, list[int]], Phase, int]) -> None:
    shapes, phase, seed = case
    order = Order(shapes, seed, [phase])
    later = [order.batch(step) for step in (9, 2, 5)]
    assert later == [Order(shapes, seed, [phase]).batch(step) for step in (9, 2, 5)]
    numbers = [sample.number for step in range(10) for sample in order.batch(step)]
    assert numbers == list(range(10 * phase.global_batch))
    assert order.first_sample(9) == 9 * phase.global_batch


@given(orders(), st.lists(st.integers(1, 12), min_size=1, max_size=4), st.data())
@settings(max_examples=60)
def test_phases_that_begin_at_cursors_go_on_exactly(
    case: tuple[dict[str, list[int]], Phase, int], lengths: list[int], data: st.DataObject
) -> None:
    """No sequence is lost or comes twice, whatever weights and batch size a later phase has."""
    shapes, phase, seed = case
    phases = [phase]
    step = 0
    for length in lengths:
        step += length
        order = Order(shapes, seed, phases)
        cursors = order.cursors(step)
        weights = integer_weights(data.draw(st.lists(st.floats(0.05, 1), min_size=len(shapes), max_size=len(shapes))))
        sources = [
            replace(source, weight=weight, cursor=cursors[source.name])
            for source, weight in zip(phase.sources, weights, strict=True)
        ]
        batch = data.draw(st.integers(1, 40))
        phases.append(Phase(step, order.first_sample(step), tuple(sources), 8, batch))
    order = Order(shapes, seed, phases)
    last = step + 5
    assert [sample.number for n in range(last) for sample in order.batch(n)] == list(range(order.first_sample(last)))
    for name, samples in stream(order, 0, last).items():
        alone = Order({name: shapes[name]}, seed, [phase_of({name: shapes[name]}, [1], len(samples))])
        one = [(sample.epoch, sample.shard, sample.sequence) for sample in samples]
        assert one == [(sample.epoch, sample.shard, sample.sequence) for sample in alone.batch(0)]


def test_cursors_count_epochs_shards_and_sequences() -> None:
    shapes = {"web": [3, 4]}
    order = Order(shapes, 0, [phase_of(shapes, [1], 1)])
    first = order.batch(0)[0].shard
    size = shapes["web"][first]
    assert order.cursors(0) == {"web": Cursor(0, 0, 0)}
    assert order.cursors(2) == {"web": Cursor(0, 0, 2)}
    assert order.cursors(size) == {"web": Cursor(0, 1, 0)}
    assert order.cursors(7 + 1) == {"web": Cursor(1, 0, 1)}
    assert order.epochs(7) == {"web": 1.0}


def test_sources_and_seeds_have_orders_of_their_own() -> None:
    shapes = {"web": [50, 50], "code": [50, 50]}
    places = {
        (name, seed): tuple((s.shard, s.sequence) for s in Order(shapes, seed, [phase_of(shapes, [1, 1], 200)]).batch(0)
                            if s.source == name)[:40]
        for name in shapes for seed in (0, 1)
    }  # fmt: skip
    assert len(set(places.values())) == 4


def test_golden_values() -> None:
    """Data already trained on depends on these: they may never change."""
    shapes = {"web": [5, 3, 7], "code": [4]}
    order = Order(shapes, 17, [phase_of(shapes, [3, 1], 8)])
    found = [(s.source, s.epoch, s.shard, s.sequence) for step in (0, 3) for s in order.batch(step)]
    assert found == GOLDEN


GOLDEN = [
    ("web", 0, 0, 4),
    ("web", 0, 0, 2),
    ("web", 0, 0, 1),
    ("web", 0, 0, 0),
    ("code", 0, 0, 3),
    ("web", 0, 0, 3),
    ("web", 0, 2, 5),
    ("code", 0, 0, 2),
    ("code", 1, 0, 0),
    ("web", 1, 0, 3),
    ("code", 2, 0, 1),
    ("web", 1, 0, 1),
    ("web", 1, 0, 0),
    ("web", 1, 1, 2),
    ("code", 2, 0, 3),
    ("web", 1, 1, 1),
]


def test_a_phase_survives_json() -> None:
    shapes = {"web": [5], "code": [4]}
    phase = phase_of(shapes, [3, 1], 8)
    moved = replace(phase, sources=(replace(phase.sources[0], cursor=Cursor(1, 2, 3)), phase.sources[1]))
    assert Phase.from_json(moved.to_json()) == moved


def test_a_step_belongs_to_the_latest_phase_begun() -> None:
    phases = tuple(replace(phase_of({"web": [1]}, [1], 1), first_step=step) for step in (0, 5, 9))
    assert [phase_at(phases, step).first_step for step in (0, 4, 5, 8, 9, 100)] == [0, 0, 5, 5, 9, 9]
