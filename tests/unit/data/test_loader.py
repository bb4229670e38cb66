from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import batch
from pipeline.data.batch import IGNORED
from pipeline.data.loader import Loader, Share
from pipeline.data.mixture import integer_weights
from pipeline.data.order import Order
from pipeline.data.phases import Phase, PhaseSource

SHAPES = {"web": [11, 4], "code": [5]}


class Numbers:
    """Sequences whose tokens tell where they are from; the last of a shard is short."""

    sequence_length = 4
    fingerprints = dict.fromkeys(SHAPES, "0" * 64)
    shapes: dict[str, Sequence[int]] = SHAPES

    def fetch(self, name: str, shard: int, sequence: int) -> batch.Sequence:
        """Four tokens, or three."""
        first = 10_000 * list(SHAPES).index(name) + 1000 * shard + 10 * sequence
        length = 4 - (sequence == SHAPES[name][shard] - 1)
        tokens = np.arange(first, first + length + 1, dtype=np.int64)
        return batch.Sequence(tokens[:-1], tokens[1:])


def order_of(global_batch: int) -> Order:
    shares = zip(SHAPES, integer_weights([2, 1]), strict=True)
    sources = tuple(PhaseSource(name, "0" * 64, share) for name, share in shares)
    return Order(SHAPES, 5, [Phase(0, 0, sources, 4, global_batch)])


@given(st.integers(1, 64), st.integers(1, 33), st.integers(1, 300))
@settings(max_examples=300)
def test_shares_part_the_global_batch(world_size: int, micro_size: int, global_size: int) -> None:
    shares = [Share(rank, world_size, micro_size, global_size) for rank in range(world_size)]
    assert len({len(share.slices()) for share in shares}) == 1  # a forward pass may communicate
    places = [place for share in shares for part in share.slices() for place in range(global_size)[part]]
    assert sorted(places) == list(range(global_size))
    assert all(len(range(global_size)[part]) <= micro_size for share in shares for part in share.slices())
    assert shares[0].num_micro_batches == -(-global_size // (micro_size * world_size))


@given(st.integers(1, 9), st.integers(1, 7), st.integers(1, 40), st.integers(0, 6))
@settings(max_examples=40)
def test_a_global_batch_does_not_depend_on_the_number_of_ranks(
    world_size: int, micro_size: int, global_size: int, step: int
) -> None:
    order, numbers = order_of(global_size), Numbers()
    alone = Loader(numbers, order, Share(0, 1, global_size, global_size), pad_id=3).batch(step)
    ranks = [
        Loader(numbers, order, Share(rank, world_size, micro_size, global_size), pad_id=3).batch(step)
        for rank in range(world_size)
    ]
    assert sorted((s for one in ranks for s in one.samples), key=lambda s: s.number) == list(alone.samples)
    rows = torch.cat([micro.input_ids for one in ranks for micro in one.micro_batches])
    labels = torch.cat([micro.labels for one in ranks for micro in one.micro_batches])
    full = (labels != IGNORED).any(dim=1)
    assert sorted(rows[full].tolist()) == sorted(alone.micro_batches[0].input_ids.tolist())
    assert sorted(labels[full].tolist()) == sorted(alone.micro_batches[0].labels.tolist())
    assert (rows[~full] == 3).all()
    assert {micro.input_ids.shape for one in ranks for micro in one.micro_batches} == {(micro_size, 4)}


def test_samples_stand_in_the_order_of_their_rows() -> None:
    numbers = Numbers()
    one = Loader(numbers, order_of(10), Share(1, 2, 2, 10), pad_id=3).batch(4)
    rows = [row for micro in one.micro_batches for row in micro.input_ids.tolist()]
    for sample, row in zip(one.samples, rows, strict=False):
        assert row[:3] == numbers.fetch(sample.source, sample.shard, sample.sequence).inputs.tolist()[:3]
    assert [len(one.samples), len(rows), one.step] == [4, 6, 4]


@given(st.integers(0, 5), st.integers(0, 6))
@settings(max_examples=20)
def test_batches_prepared_ahead_are_the_same(first: int, number: int) -> None:
    loader = Loader(Numbers(), order_of(6), Share(0, 2, 2, 6), pad_id=3)
    found = list(loader.batches(first, first + number))
    assert [one.step for one in found] == list(range(first, first + number))
    for one in found:
        expected = loader.batch(one.step)
        assert one.samples == expected.samples
        for micro, other in zip(one.micro_batches, expected.micro_batches, strict=True):
            assert torch.equal(micro.input_ids, other.input_ids)
            assert torch.equal(micro.labels, other.labels)


def test_an_error_while_preparing_reaches_the_loop() -> None:
    class Broken(Numbers):
        def fetch(self, name: str, shard: int, sequence: int) -> batch.Sequence:
            raise OSError("gone")

    batches = Loader(Broken(), order_of(6), Share(0, 1, 2, 6), pad_id=3).batches(0, 2)
    with pytest.raises(OSError, match="gone"):
        next(batches)
