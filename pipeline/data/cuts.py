"""Cuts: how the positions of one shard become sequences.

A shard of n tokens has positions [0, n - 1): position i reads token i and predicts token i + 1. A cut hands each of
them to exactly one sequence, which is a list of pieces: stretches of positions. When the cut changes in the middle of a
shard, the sequences not yet taken are laid end to end, in the order in which they would have come, and cut anew. So
whatever changes how often, each position of a shard comes exactly once in an epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.stretches import distinct, joined, ranges, split_at
from pipeline.data.best_fit import best_fit
from pipeline.data.permutation import Permutation

Positions = NDArray[np.int64]
Packing = Literal["concat", "best_fit", "whole"]


class Cut(NamedTuple):
    """How positions become sequences."""

    sequence_length: int
    """Positions in a sequence, at most."""
    packing: Packing
    """`concat`: windows over the stream of documents; `best_fit`: no document is cut unless it is longer than a
    sequence (Ding et al. 2024, arXiv:2404.10830); `whole`: each position is a sequence, such as a conversation."""


class Taken(NamedTuple):
    """A cut that a shard had before, and how many of its sequences had been taken when the next one began."""

    cut: Cut
    sequences: int


class ShardCut(NamedTuple):
    """A shard in an epoch, and how it is cut."""

    source: str
    epoch: int
    shard: int
    """Its number in the manifest."""
    cut: Cut
    earlier: tuple[Taken, ...] = ()
    """Cuts it had before in this epoch, in their order."""


@dataclass(frozen=True)
class Pieces:
    """The sequences of a shard: sequence k is the pieces [bounds[k], bounds[k + 1])."""

    starts: Positions
    """First position of each piece."""
    stops: Positions
    """The position behind each piece."""
    bounds: Positions
    """One more than there are sequences."""

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def of(self, sequences: Positions) -> tuple[Positions, Positions, Positions]:
        """Starts and stops of some sequences' pieces, one after the other, and how many each sequence has."""
        firsts = self.bounds[sequences]
        counts = self.bounds[sequences + 1] - firsts
        which = ranges(firsts, counts)
        return self.starts[which], self.stops[which], counts


class SourceShards(Protocol):
    """The shards of one source."""

    @property
    def num_positions(self) -> Positions:
        """Positions of each shard."""

    def document_ends(self, shard: int) -> Positions:
        """Where each document of a shard ends in its stream of tokens, exclusive, in order."""


class Cuts:
    """The sequences of all shards, computed when they are asked for; those of each source's last shards are kept."""

    def __init__(self, sources: Mapping[str, SourceShards], seed: int, cached: int = 4) -> None:
        """Cut the shards of some sources; the seed is that of the order, which says what has been taken.

        An order has one shard of a source open, and at its end the next one: `cached` need not be many.
        """
        self.sources, self._seed = dict(sources), seed
        self._pieces = lru_cache(maxsize=cached * len(self.sources))(self._compute)
        self._packed_size = cache(lambda at: len(self._pieces(at)))
        self.order = lru_cache(maxsize=cached * len(self.sources))(self._permutation)

    def sizes(self, source: str, cut: Cut) -> Positions | None:
        """Sequences of each of a source's shards, if the numbers of positions decide them."""
        return None if cut.packing == "best_fit" else -(-self.sources[source].num_positions // _step(cut))

    def size(self, at: ShardCut) -> int:
        """Sequences of a shard."""
        if at.cut.packing == "best_fit":
            return self._packed_size(_in_any_epoch(at))
        return -(-self._num_left(at) // _step(at.cut))

    def _num_left(self, at: ShardCut) -> int:
        """Positions of a shard that its earlier cuts have left."""
        if not at.earlier:
            return int(self.sources[at.source].num_positions[at.shard])
        before, taken = _before(at)
        if before.cut.packing == "best_fit":
            starts, stops = self.untaken(before, taken)
            return int((stops - starts).sum())
        num_positions, size = self._num_left(before), self.size(before)
        missing = size * _step(before.cut) - num_positions  # in its last sequence alone
        has_last = bool(size) and int(self.order(before).inverse(np.array([size - 1], dtype=np.uint64))[0]) < taken
        return num_positions - taken * _step(before.cut) + missing * has_last

    def _permutation(self, at: ShardCut) -> Permutation:
        """The order in which a shard's sequences come."""
        recut = (len(at.earlier),) if at.earlier else ()
        return Permutation(self.size(at), self._seed, "sequences", at.source, at.epoch, at.shard, *recut)

    def pieces(self, at: ShardCut) -> Pieces:
        """The sequences of a shard."""
        return self._pieces(_in_any_epoch(at))

    def _compute(self, at: ShardCut) -> Pieces:
        starts, stops = np.array([0]), self.sources[at.source].num_positions[at.shard : at.shard + 1]
        if at.earlier:
            starts, stops = self.untaken(*_before(at))
        if at.cut.packing == "best_fit":
            ends = self.sources[at.source].document_ends(at.shard)
            starts, stops, _ = split_at(*joined(starts, stops), ends)
        return cut(starts, stops, at.cut)

    def untaken(self, at: ShardCut, taken: int) -> tuple[Positions, Positions]:
        """Starts and stops of what is left of a shard once some of its sequences are taken, in the order to come."""
        size = self.size(at)
        left = self.order(at)(np.arange(taken, size, dtype=np.uint64)).astype(np.int64)
        starts, stops, _ = self.pieces(at).of(left)
        return starts, stops


def _before(at: ShardCut) -> tuple[ShardCut, int]:
    """How a shard was cut before, and how many of those sequences were taken."""
    *before, last = at.earlier
    return at._replace(cut=last.cut, earlier=tuple(before)), last.sequences


def _in_any_epoch(at: ShardCut) -> ShardCut:
    """One that stands for all whose pieces are the same: unless some were taken before, those of all epochs."""
    return at if at.earlier else at._replace(epoch=0)


def _step(cut: Cut) -> int:
    return 1 if cut.packing == "whole" else cut.sequence_length


def cut(starts: Positions, stops: Positions, how: Cut) -> Pieces:
    """Sequences of some pieces; empty ones vanish."""
    if how.packing == "best_fit":
        return _packed(*_split(starts, stops, how.sequence_length), how.sequence_length)
    return _laid_end_to_end(starts, stops, _step(how))


def _laid_end_to_end(starts: Positions, stops: Positions, length: int) -> Pieces:
    lengths = stops - starts
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    firsts = np.arange(0, total, length)
    breaks = distinct(np.concatenate([[0], ends, firsts]))
    item = np.searchsorted(ends, breaks[:-1], side="right")
    shift = starts[item] - (ends - lengths)[item]
    bounds = np.append(np.searchsorted(breaks[:-1], firsts), len(breaks) - 1)
    return Pieces(breaks[:-1] + shift, breaks[1:] + shift, bounds)


def _split(starts: Positions, stops: Positions, length: int) -> tuple[Positions, Positions]:
    """Pieces of at most a length; of a longer one, all but the last have just that."""
    counts = -(-(stops - starts) // length)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    firsts = np.repeat(starts, counts) + within * length
    return firsts, np.minimum(firsts + length, np.repeat(stops, counts))


def _packed(starts: Positions, stops: Positions, length: int) -> Pieces:
    bins = best_fit(stops - starts, length)
    by_bin = np.argsort(bins, kind="stable")
    bounds = np.searchsorted(bins[by_bin], np.arange(int(bins.max(initial=-1)) + 2))
    return Pieces(starts[by_bin], stops[by_bin], bounds)
