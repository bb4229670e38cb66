import gc
import threading
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.batch import IGNORED, Rows
from pipeline.data.cuts import Cuts, Pieces, Positions, ShardCut
from pipeline.data.loader import Loader, Share
from pipeline.data.mixture import integer_weights
from pipeline.data.order import Order
from pipeline.data.phases import Phase, Setting, SourceShare

SIZES = {"web": [43, 15], "code": [19]}


class Shards:
    def __init__(self, sizes: list[int]) -> None:
        self.num_positions = np.array(sizes)

    def document_ends(self, shard: int) -> Positions:
        return np.array([self.num_positions[shard] + 1])


class Numbers:
    """Positions that tell where they are from: sequences of four, of which the last of a shard is short."""

    shards: ClassVar = {name: Shards(sizes) for name, sizes in SIZES.items()}

    def fingerprint(self, source: str, num_shards: int) -> str:
        return ""

    def fill(self, rows: Rows, which: Positions, at: ShardCut, pieces: Pieces, sequences: Positions) -> None:
        rows.clear(which)
        starts, stops, _ = pieces.of(sequences)
        for row, start, stop in zip(which.tolist(), starts.tolist(), stops.tolist(), strict=True):
            tokens = 10_000 * list(SIZES).index(at.source) + 1000 * at.shard + np.arange(start, stop + 1)
            rows.inputs[row, : stop - start], rows.labels[row, : stop - start] = tokens[:-1], tokens[1:]


def order_of(global_batch: int) -> Order:
    shares = zip(SIZES.items(), integer_weights([2, 1]), strict=True)
    sources = tuple(SourceShare(name, "", len(sizes), share) for (name, sizes), share in shares)
    return Order(Cuts(Numbers.shards, 5), 5, [Phase(0, 0, Setting(sources, 4, global_batch))])


def loader(rank: int, world_size: int, micro_size: int, global_size: int) -> Loader:
    return Loader(Numbers(), order_of(global_size), Share(rank, world_size, micro_size), pad_id=3)


@given(st.integers(1, 64), st.integers(1, 33), st.integers(1, 300))
@settings(max_examples=300)
def test_shares_part_the_global_batch(world_size: int, micro_size: int, global_size: int) -> None:
    seen: list[int] = []
    for rank in range(world_size):
        share = Share(rank, world_size, micro_size)
        mine, rows = share.rows(np.arange(global_size))
        assert len(set(rows.tolist())) == len(rows)
        assert all(0 <= row < micro_size * share.num_micro_batches(global_size) for row in rows.tolist())
        assert rows.tolist() == sorted(rows.tolist())
        seen += mine.tolist()
    assert sorted(seen) == list(range(global_size))
    assert Share(0, world_size, micro_size).num_micro_batches(global_size) == -(
        -global_size // (micro_size * world_size)
    )


@given(st.integers(1, 3), st.integers(1, 7), st.integers(1, 20), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_batch_tells_the_source_and_the_tokens_of_each_row(
    world_size: int, micro_size: int, global_size: int, step: int
) -> None:
    for rank in range(world_size):
        batch = loader(rank, world_size, micro_size, global_size).batch(step)
        assert batch.sources is not None
        labels = torch.cat([one.labels for one in batch.micro_batches])
        assert batch.row_tokens.tolist() == [int((row != IGNORED).sum()) for row in labels]
        for row, source in zip(labels.tolist(), batch.sources.tolist(), strict=True):
            assert {token // 10_000 for token in row if token != IGNORED} == ({source} if source >= 0 else set())


@given(st.integers(1, 64), st.integers(1, 7), st.integers(1, 40), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_a_global_batch_does_not_depend_on_the_number_of_ranks(
    world_size: int, micro_size: int, global_size: int, step: int
) -> None:
    """Row for row, in its order: micro batch m of all ranks, one after the other, then m + 1."""
    alone = loader(0, 1, global_size, global_size).batch(step).micro_batches[0]
    ranks = [loader(rank, world_size, micro_size, global_size).batch(step) for rank in range(world_size)]
    assert len({len(one.micro_batches) for one in ranks}) == 1  # a forward pass may communicate
    by_turn = [micro for turn in zip(*(one.micro_batches for one in ranks), strict=True) for micro in turn]
    assert {micro.input_ids.shape for micro in by_turn} == {(micro_size, 4)}
    inputs, labels = torch.cat([one.input_ids for one in by_turn]), torch.cat([one.labels for one in by_turn])
    assert torch.equal(inputs[:global_size], alone.input_ids)
    assert torch.equal(labels[:global_size], alone.labels)
    assert (inputs[global_size:] == 3).all()
    assert (labels[global_size:] == IGNORED).all()


@given(st.integers(0, 5), st.integers(0, 6))
@settings(max_examples=20)
def test_batches_prepared_ahead_are_the_same(first: int, number: int) -> None:
    one = loader(0, 2, 2, 6)
    found = list(one.batches(first, first + number))
    assert [batch.step for batch in found] == list(range(first, first + number))
    for batch in found:
        for micro, other in zip(batch.micro_batches, one.batch(batch.step).micro_batches, strict=True):
            assert torch.equal(micro.input_ids, other.input_ids)
            assert torch.equal(micro.labels, other.labels)


class Broken(Numbers):
    """Sequences that are gone from some batch on."""

    def __init__(self, good: int) -> None:
        self.good, self.begun = good, 0

    def fill(self, rows: Rows, which: Positions, at: ShardCut, pieces: Pieces, sequences: Positions) -> None:
        self.begun += 1
        if self.begun > self.good:
            raise OSError("gone")
        rows.clear(which)


def one_source(source: Numbers) -> Loader:
    """Steps of one sequence each, so that each is filled once."""
    shares = (SourceShare("web", "", 2, integer_weights([1])[0]),)
    order = Order(Cuts(source.shards, 5), 5, [Phase(0, 0, Setting(shares, 4, 1))])
    return Loader(source, order, Share(0, 1, 1), pad_id=3)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("loader")}


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_an_error_comes_out_at_its_step(depth: int) -> None:
    batches = one_source(Broken(3)).batches(0, 9, depth)
    assert [next(batches).step for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="gone"):
        next(batches)
    assert not threads()


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_no_more_than_depth_are_prepared_ahead_and_nothing_goes_on_after_the_end(depth: int) -> None:
    source = Broken(10**6)
    batches = one_source(source).batches(0, None, depth)
    for _ in range(4):
        next(batches)
    assert threads()
    batches.close()
    assert not threads()
    assert 4 <= source.begun <= 4 + depth


def test_no_thread_is_left_when_the_loop_ends_in_the_middle() -> None:
    for batch in one_source(Numbers()).batches(0):
        if batch.step == 3:
            break
    del batch
    assert not threads()

    def fails() -> None:
        for batch in one_source(Numbers()).batches(0):
            assert threads()
            raise KeyError(batch.step)

    with pytest.raises(KeyError):
        fails()
    gc.collect()
    assert not threads()


def test_no_thread_begins_before_the_first_batch_is_asked_for() -> None:
    batches = one_source(Numbers()).batches(0)
    assert not threads()
    batches.close()


def test_batches_are_not_written_over_by_later_ones() -> None:
    one = loader(0, 1, 2, 6)
    kept = list(one.batches(0, 12))
    for batch in kept:
        for micro, other in zip(batch.micro_batches, one.batch(batch.step).micro_batches, strict=True):
            assert torch.equal(micro.input_ids, other.input_ids)


def test_rows_are_pinned_only_where_a_gpu_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where there merely is one, as in a run on the CPU of a machine that has some."""
    is_used = torch.cuda.is_initialized()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for batch in loader(0, 1, 2, 6).batches(0, 2):
        for micro in batch.micro_batches:
            assert micro.input_ids.is_pinned() == micro.labels.is_pinned() == is_used
    assert torch.cuda.is_initialized() == is_used


def test_rows_arrive_on_the_device() -> None:
    """Pinned ones on a GPU, where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for batch in loader(0, 1, 2, 6).batches(0, 20):
        for micro in batch.micro_batches:
            assert torch.equal(micro.input_ids.to(device, non_blocking=True).cpu(), micro.input_ids)


def test_positions_are_given_only_to_micro_batches_that_have_several_pieces() -> None:
    rows = Rows(4, 5, pad_id=3, has_pieces=True)
    rows.clear(np.arange(4))
    assert rows.positions is not None
    rows.positions[1] = [0, 1, 0, 1, 2]
    first, second = rows.micro_batches(2)
    assert first.position_ids is not None
    assert first.position_ids.tolist() == [[0, 1, 2, 3, 4], [0, 1, 0, 1, 2]]
    assert second.position_ids is None
