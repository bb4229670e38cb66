"""The order of samples: which sequence is sample n, as a pure function of (manifests, seed, phases).

A source is a fixed list of shards. Per epoch its shards are permuted, and inside a shard its sequences are; so one
shard per source is open at a time. A mixture says which source each sample comes from. Nothing is kept between
calls but caches: the state of the data is the number of the next step and the phase table.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.data.mixture import Mixture
from pipeline.data.permutation import Permutation, permutation
from pipeline.data.phases import Cursor, Phase, PhaseSource, phase_at


@dataclass(frozen=True)
class Sample:
    """One sequence of one shard, and its number in the run."""

    number: int
    """Sample number, from 0."""
    source: str
    """Source's name."""
    epoch: int
    """How often its source had been gone through before."""
    shard: int
    """Shard's number in the manifest."""
    sequence: int
    """Sequence's number in the shard."""


class SourceOrder:
    """The endless order of one source's sequences, from a cursor on."""

    def __init__(self, source: PhaseSource, sequences_per_shard: Sequence[int], seed: int) -> None:
        """Take the number of sequences of each shard, in the manifest's order; at least one in all."""
        self.name, self._seed = source.name, seed
        self._sizes = np.asarray(sequences_per_shard, dtype=np.int64)
        self.epoch_size = int(self._sizes.sum())
        self._epoch = lru_cache(maxsize=4)(self._compute_epoch)
        _, starts = self._epoch(source.cursor.epoch)
        within = int(starts[source.cursor.shard]) + source.cursor.taken
        self._start = source.cursor.epoch * self.epoch_size + within

    def _compute_epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """An epoch's shards in order, and the number of sequences before each of them (and after the last)."""
        order = permutation(len(self._sizes), self._seed, "shards", self.name, epoch).astype(np.int64)
        return order, np.concatenate([np.zeros(1, np.int64), np.cumsum(self._sizes[order])])

    def locate(self, first: int, number: int) -> Iterator[tuple[int, int, int]]:
        """(epoch, shard, sequence) of the source's sequences [first, first + number) since the cursor."""
        while number > 0:
            epoch, place, taken = self._place(first)
            shard = int(self._epoch(epoch)[0][place])
            size = int(self._sizes[shard])
            stretch = min(number, size - taken)
            shuffle = _sequence_order(size, self._seed, self.name, epoch, shard)
            for sequence in shuffle(np.arange(taken, taken + stretch, dtype=np.uint64)).tolist():
                yield epoch, shard, sequence
            first, number = first + stretch, number - stretch

    def cursor(self, index: int) -> Cursor:
        """The cursor once `index` sequences are used up."""
        return Cursor(*self._place(index))

    def epochs(self, index: int) -> float:
        """How many epochs are used up once `index` sequences are."""
        return (self._start + index) / self.epoch_size

    def _place(self, index: int) -> tuple[int, int, int]:
        """(epoch, place of the shard in the epoch's order, sequences of it used up) before the `index`-th sequence."""
        epoch, within = divmod(self._start + index, self.epoch_size)
        _, starts = self._epoch(epoch)
        place = int(np.searchsorted(starts, within, side="right")) - 1
        return epoch, place, within - int(starts[place])


@lru_cache(maxsize=1024)
def _sequence_order(size: int, seed: int, source: str, epoch: int, shard: int) -> Permutation:
    return Permutation(size, seed, "sequences", source, epoch, shard)


class Order:
    """The order of a whole run."""

    def __init__(self, shapes: Mapping[str, Sequence[int]], seed: int, phases: Sequence[Phase]) -> None:
        """Set up the order.

        Args:
            shapes: Per source, the number of sequences in each of its shards.
            seed: The run's seed.
            phases: The phase table.
        """
        self.phases = tuple(phases)
        self._seed = seed
        self._mixtures = {phase.first_step: _mixture(phase, seed) for phase in phases}
        self._sources = {
            phase.first_step: [SourceOrder(source, shapes[source.name], seed) for source in phase.sources]
            for phase in phases
        }

    def batch(self, step: int) -> list[Sample]:
        """The samples of a step's global batch, in order."""
        phase = phase_at(self.phases, step)
        offset = (step - phase.first_step) * phase.global_batch
        sources, indices = self._mixtures[phase.first_step].assign(offset, phase.global_batch)
        orders = self._sources[phase.first_step]
        places = {}
        for source in np.unique(sources).tolist():  # of its own sequences, a source gives consecutive ones
            own = indices[sources == source]
            places[source] = orders[source].locate(int(own[0]), len(own))
        return [
            Sample(phase.first_sample + offset + number, orders[source].name, *next(places[source]))
            for number, source in enumerate(sources.tolist())
        ]

    def first_sample(self, step: int) -> int:
        """Number of samples used up or skipped before a step."""
        phase = phase_at(self.phases, step)
        return phase.first_sample + (step - phase.first_step) * phase.global_batch

    def cursors(self, step: int) -> dict[str, Cursor]:
        """Where every source stands before a step: what a phase that begins there has to hold."""
        phase = phase_at(self.phases, step)
        return {order.name: order.cursor(count) for order, count in self._used(phase, step)}

    def epochs(self, step: int) -> dict[str, float]:
        """How many epochs of each source are used up before a step."""
        return {order.name: order.epochs(count) for order, count in self._used(phase_at(self.phases, step), step)}

    def _used(self, phase: Phase, step: int) -> list[tuple[SourceOrder, int]]:
        """Each source's order, and how many of its sequences the phase has used up before a step."""
        used = self._mixtures[phase.first_step].counts((step - phase.first_step) * phase.global_batch)
        return list(zip(self._sources[phase.first_step], used, strict=True))


def _mixture(phase: Phase, seed: int) -> Mixture:
    return Mixture([source.weight for source in phase.sources], seed, "mixture", phase.first_sample)
