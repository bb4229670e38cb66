"""The endless order of one source's sequences: per epoch its shards are permuted, and inside a shard its sequences."""

from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.cuts import Cut, Cuts, ShardCut
from pipeline.data.permutation import permutation
from pipeline.data.phases import Bookmark, Cursor


class Stretch(NamedTuple):
    """Consecutive sequences of a source, out of one shard."""

    at: ShardCut
    sequences: NDArray[np.int64]
    """Their numbers in the shard."""


class _Spot(NamedTuple):
    """Before some sequence: its shard's epoch and place in the epoch's order, and how many of the shard are used up."""

    epoch: int
    place: int
    taken: int


class _Visited(NamedTuple):
    """A shard that a walk came to."""

    first: int
    """Its first sequence, counted from the cursor; below 0 if some are used up."""
    epoch: int
    place: int


class SourceOrder:
    """One source's sequences from a cursor on."""

    def __init__(self, name: str, num_shards: int, cut: Cut, cursor: Cursor, cuts: Cuts, seed: int) -> None:
        """Begin at the cursor and cut shards as it is said."""
        self.name = name
        self._num_shards, self._cut, self._cursor, self._cuts, self._seed = num_shards, cut, cursor, cuts, seed
        self._sizes = cuts.sizes(name, cut)
        self.shards = lru_cache(maxsize=4)(self._shards)
        self._starts = lru_cache(maxsize=4)(self._compute_starts)
        self._walks = [[_Visited(-cursor.taken, cursor.epoch, cursor.place)]]

    def remember(self, bookmark: Bookmark) -> None:
        """Take it that the source stands there once so many sequences are used up; what follows is found from there."""
        index, cursor = bookmark
        self._walks.append([_Visited(index - cursor.taken, cursor.epoch, cursor.place)])

    def bookmark(self, index: int) -> Bookmark | None:
        """What `remember` takes once `index` sequences are used up; None where the place is computed in any case."""
        return None if self._sizes is not None else Bookmark(index, self.cursor(index))

    def _shards(self, epoch: int) -> NDArray[np.int64]:
        """An epoch's shards in their order."""
        number = self._num_shards
        if epoch == self._cursor.epoch and self._cursor.num_shards is not None:
            number = self._cursor.num_shards
        return permutation(number, self._seed, "shards", self.name, epoch).astype(np.int64)

    def _compute_starts(self, epoch: int) -> NDArray[np.int64]:
        """The number of sequences before each of an epoch's shards, and behind the last."""
        assert self._sizes is not None
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self._sizes[self.shards(epoch)])])

    def locate(self, first: int, number: int) -> Iterator[Stretch]:
        """The source's sequences [first, first + number) since the cursor."""
        while number > 0:
            spot = self._spot(first)
            at = self.shard_cut(spot.epoch, spot.place)
            stretch = min(number, self._cuts.size(at) - spot.taken)
            wanted = np.arange(spot.taken, spot.taken + stretch, dtype=np.uint64)
            yield Stretch(at, self._cuts.order(at)(wanted).astype(np.int64))
            first, number = first + stretch, number - stretch

    def shard_cut(self, epoch: int, place: int) -> ShardCut:
        """The shard at a place of an epoch's order, and how it is cut: at the cursor, on top of other cuts."""
        is_open = (epoch, place) == (self._cursor.epoch, self._cursor.place)
        earlier = self._cursor.earlier if is_open else ()
        return ShardCut(self.name, epoch, int(self.shards(epoch)[place]), self._cut, earlier)

    def cursor(self, index: int) -> Cursor:
        """The cursor once `index` sequences are used up."""
        spot = self._spot(index)
        at = self.shard_cut(spot.epoch, spot.place)
        fewer = len(self.shards(spot.epoch))
        return Cursor(*spot, at.earlier, fewer if fewer < self._num_shards else None)

    def upcoming(self, index: int, number: int) -> list[int]:
        """The next shards that sequences from `index` on come out of, in their order; none is opened to say so."""
        epoch, place = self._cursor.epoch, self._cursor.place
        if index:
            last = self._spot(index - 1)  # its shard was opened when it was taken; the one behind it may not be here
            is_used_up = last.taken + 1 == self._cuts.size(self.shard_cut(last.epoch, last.place))
            epoch, place = last.epoch, last.place + is_used_up
        positions, found = self._cuts.sources[self.name].num_positions, dict[int, None]()
        for _ in range(len(self.shards(epoch)) + self._num_shards):
            if place == len(self.shards(epoch)):
                epoch, place = epoch + 1, 0
            shard = int(self.shards(epoch)[place])
            if positions[shard]:
                found[shard] = None
            if len(found) == number:
                break
            place += 1
        return list(found)

    def _spot(self, index: int) -> _Spot:
        if self._sizes is None:
            return self._walked(index)
        cursor = self._cursor
        index += cursor.taken
        place = cursor.place
        if cursor.earlier:
            size = self._cuts.size(self.shard_cut(cursor.epoch, place))
            if index < size:
                return _Spot(cursor.epoch, place, index)
            index, place = index - size, place + 1
        return self._computed(place, index)

    def _computed(self, place: int, index: int) -> _Spot:
        """The spot `index` sequences behind the beginning of a shard of the cursor's epoch."""
        epoch, starts = self._cursor.epoch, self._starts(self._cursor.epoch)
        within = int(starts[place]) + index
        if within >= starts[-1]:
            starts = self._starts(epoch + 1)
            more, within = divmod(within - int(self._starts(epoch)[-1]), int(starts[-1]))
            epoch += 1 + more
            starts = self._starts(epoch)
        place = int(np.searchsorted(starts, within, side="right")) - 1
        return _Spot(epoch, place, within - int(starts[place]))

    def _walked(self, index: int) -> _Spot:
        """The spot of a sequence, shard by shard: how many sequences each has is only known once it is packed."""
        walk = next(walk for walk in reversed(self._walks) if walk[0].first <= index)
        while walk[-1].first <= index:
            walk.append(self._next(walk[-1]))
        first, epoch, place = walk[bisect_right(walk, index, key=lambda one: one.first) - 1]
        return _Spot(epoch, place, index - first)

    def _next(self, visited: _Visited) -> _Visited:
        first, epoch, place = visited
        first += self._cuts.size(self.shard_cut(epoch, place))
        return _Visited(first, *((epoch, place + 1) if place + 1 < len(self.shards(epoch)) else (epoch + 1, 0)))

    def epochs(self, index: int) -> float:
        """Epochs used up once `index` sequences are: whole ones, and the share of positions of the last."""
        spot = self._spot(index)
        positions = self._cuts.sources[self.name].num_positions[self.shards(spot.epoch)]
        at = self.shard_cut(spot.epoch, spot.place)
        left = positions[spot.place]
        if spot.taken or at.earlier:
            starts, stops = self._cuts.untaken(at, spot.taken)
            left = (stops - starts).sum()
        return spot.epoch + int(positions[: spot.place + 1].sum() - left) / int(positions.sum())
