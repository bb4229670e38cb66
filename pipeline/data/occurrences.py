"""The order of samples the other way round: which steps read a stretch of a shard."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pipeline.data.cuts import Pieces, Positions, ShardCut
from pipeline.data.order import Order
from pipeline.data.phases import Phase
from pipeline.data.source_order import SourceOrder


class Occurrence(NamedTuple):
    """A sequence that reads the stretch, or a part of it."""

    step: int
    """Number of the step, from 0."""
    place: int
    """Its place in the global batch."""
    at: ShardCut
    sequence: int


def occurrences(order: Order, source: str, shard: int, start: int, stop: int, last_step: int) -> Iterator[Occurrence]:
    """The sequences of steps [0, last_step) that read some of a shard's positions [start, stop), in their order.

    Each function that leads from a sample to its positions is inverted: shard in the epoch's order, sequence in the
    shard's order, index among the source's sequences, sample of the mixture. Costs a few of each per epoch.
    """
    phases = order.phases(last_step - 1)
    bounds = pairwise([*(phase.first_step for phase in phases), last_step])
    for phase, (first, end) in zip(phases, bounds, strict=True):
        number = next((n for n, one in enumerate(phase.setting.sources) if one.name == source and one.weight), None)
        if number is not None and first < end:
            yield from _in_phase(order, phase, end, number, shard, range(start, stop))


def _in_phase(order: Order, phase: Phase, end: int, number: int, shard: int, stretch: range) -> Iterator[Occurrence]:
    mixture, sources = order.of(phase)
    source, batch = sources[number], phase.setting.global_batch
    samples = phase.offset, phase.offset + (end - phase.first_step) * batch
    first, last = (mixture.counts(sample)[number] for sample in samples)
    for at, sequence, index in _indices(order, source, first, last, shard, stretch):
        step, place = divmod(mixture.sample(number, index) - phase.offset, batch)
        yield Occurrence(phase.first_step + step, place, at, sequence)


def _indices(
    order: Order, source: SourceOrder, first: int, last: int, shard: int, stretch: range
) -> Iterator[tuple[ShardCut, int, int]]:
    """Of a source's sequences [first, last) those that read a stretch: shard, number in it, index in the source."""
    if first >= last:
        return

    def spot(index: int) -> tuple[int, int, int]:
        cursor = source.cursor(index)
        return cursor.epoch, cursor.place, cursor.taken

    begin, end = spot(first), spot(last - 1)
    for epoch in range(begin[0], end[0] + 1):
        for place in np.flatnonzero(source.shards(epoch) == shard).tolist():
            if begin[:2] <= (epoch, place) <= end[:2]:
                at = source.shard_cut(epoch, place)
                for taken, sequence in _taken(order, at, stretch):
                    index = bisect_left(range(last), (epoch, place, taken), lo=first, key=spot)
                    if index < last and spot(index) == (epoch, place, taken):
                        yield at, sequence, index


def _taken(order: Order, at: ShardCut, stretch: range) -> list[tuple[int, int]]:
    """The sequences of a shard that read a stretch: how many of the shard come before each, and its number."""
    sequences = _reading(order.cuts.pieces(at), stretch)
    if not len(sequences):
        return []
    taken = order.cuts.order(at).inverse(sequences.astype(np.uint64))
    return sorted(zip(taken.tolist(), sequences.tolist(), strict=True))


def _reading(pieces: Pieces, stretch: range) -> Positions:
    which = np.flatnonzero((pieces.starts < stretch.stop) & (pieces.stops > stretch.start))
    return np.unique(np.searchsorted(pieces.bounds, which, side="right") - 1)
