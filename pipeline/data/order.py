"""The order of samples: which sequence is sample n, as a pure function of (manifests, seed, phases).

A source is a fixed list of shards. Per epoch its shards are permuted, and inside a shard its sequences are; so one
shard per source is open at a time. A mixture says which source each sample comes from. Nothing is kept between
calls but caches: the state of the data is the number of the next step and the phase table.
"""

import hashlib
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from pipeline.data.cuts import Cuts, ShardCut, Taken
from pipeline.data.mixture import Mixture
from pipeline.data.phases import Bookmark, Change, Cursor, DamagedChunk, Past, Phase, Setting
from pipeline.data.source_order import SourceOrder


@dataclass(frozen=True)
class Sample:
    """One sequence of one shard, and its number in the run."""

    number: int
    """Sample number, from 0."""
    at: ShardCut
    """Its shard, and how that is cut."""
    sequence: int
    """Its number in the shard."""


@dataclass(frozen=True)
class Part:
    """The samples of a global batch that come out of one shard."""

    at: ShardCut
    """The shard, and how it is cut."""
    sequences: NDArray[np.int64]
    """Numbers of their sequences in the shard."""
    places: NDArray[np.int64]
    """Their places in the global batch."""


class Order:
    """The order of a whole run."""

    def __init__(
        self,
        cuts: Cuts,
        seed: int,
        phases: Sequence[Phase],
        changes: Sequence[Change] = (),
        bookmarks: Mapping[str, Bookmark] | None = None,
    ) -> None:
        """Set up the order.

        Args:
            cuts: The sequences of all shards.
            seed: The run's seed.
            phases: The phase table, as far as it is known.
            changes: What comes later, by step. The phases that follow are computed when a step asks for them.
            bookmarks: Of the table's last phase, from `past`; nothing depends on them but time.
        """
        self.cuts, self._seed = cuts, seed
        self._known, self._changes, self._planned = list(phases), list(changes), tuple(changes)
        self._source_order = cache(partial(SourceOrder, cuts=cuts, seed=seed))
        self.of = lru_cache(maxsize=4)(self._compute)  # of a phase: its mixture, and the order of each source
        self._lock = RLock()  # batches are prepared in another thread than the one that saves
        for name, bookmark in (bookmarks or {}).items():
            next(order for order in self.of(phases[-1])[1] if order.name == name).remember(bookmark)

    def fingerprint(self) -> str:
        """sha256 over all that the order depends on; equal where it is equal."""
        return hashlib.sha256(repr((self._seed, self._known, self._changes)).encode()).hexdigest()

    def phases(self, step: int) -> tuple[Phase, ...]:
        """The phase table up to and with a step."""
        with self._lock:
            while self._changes and self._changes[0].step <= step:
                self._known.append(self.next_phase(self._changes.pop(0)))
        return tuple(phase for phase in self._known if phase.first_step <= step)

    def phase(self, step: int) -> Phase:
        """The phase that a step belongs to; of several that begin at the same step, the last."""
        return self.phases(step)[-1]

    def next_begin(self, step: int) -> int | None:
        """The first step behind a step with which a phase begins; nothing is computed of it."""
        with self._lock:
            begins = [*(phase.first_step for phase in self._known), *(change.step for change in self._changes)]
        return min((begin for begin in begins if begin > step), default=None)

    def next_phase(self, change: Change) -> Phase:
        """The phase that a change begins, behind the last known one. But for what is skipped, nothing is lost."""
        last, was, skipped = self._known[-1], self._known[-1].setting, change.skipped_steps
        samples = (change.step + skipped - last.first_step) * was.global_batch
        first_sample = last.first_sample + samples
        setting = was if change.setting is None else change.setting
        if setting.comes_as(was):
            return replace(last, first_step=change.step, first_sample=first_sample, setting=setting,
                           offset=last.offset + samples, skipped_steps=skipped)  # fmt: skip
        cursors = dict(last.cursors) | {one.name: one.cursor(count) for one, count in self._counted(last, samples)}
        moved = [(name, _moved(cursor, was, setting, name)) for name, cursor in sorted(cursors.items())]
        return Phase(change.step, first_sample, setting, tuple(moved), skipped_steps=skipped)

    def without(self, lost: Sequence[DamagedChunk], step: int) -> "Order":
        """The order if some chunks are left out from a step on: what is in them is padding, nothing else moves."""
        changes = [Change(step, self.phase(step).setting), *(one for one in self._planned if one.step > step)]
        later = [replace(one, setting=one.setting and one.setting.without(lost)) for one in changes]
        other = copy(self)
        other._known, other._changes, other._planned = list(self.phases(step)), later, tuple(later)
        return other

    def parts(self, step: int) -> list[Part]:
        """The samples of a step's global batch, shard by shard."""
        with self._lock:
            return self._parts(step)

    def _parts(self, step: int) -> list[Part]:
        phase = self.phase(step)
        mixture, orders = self.of(phase)
        batch = phase.setting.global_batch
        sources, indices = mixture.assign(phase.offset + (step - phase.first_step) * batch, batch)
        parts = []
        for source in np.unique(sources).tolist():  # of its own sequences, a source gives consecutive ones
            places = np.flatnonzero(sources == source)
            for stretch in orders[source].locate(int(indices[places[0]]), len(places)):
                here, places = places[: len(stretch.sequences)], places[len(stretch.sequences) :]
                parts.append(Part(stretch.at, stretch.sequences, here))
        return parts

    def batch(self, step: int) -> list[Sample]:
        """The samples of a step's global batch, in order."""
        first = self.first_sample(step)
        found = [
            Sample(first + place, part.at, sequence)
            for part in self.parts(step)
            for place, sequence in zip(part.places.tolist(), part.sequences.tolist(), strict=True)
        ]
        return sorted(found, key=lambda sample: sample.number)

    def first_sample(self, step: int) -> int:
        """Number of samples used up or skipped before a step."""
        phase = self.phase(step)
        return phase.first_sample + (step - phase.first_step) * phase.setting.global_batch

    def upcoming(self, step: int, number: int) -> dict[str, list[int]]:
        """Per source of a step's phase, the shards that its samples from this step on come out of, so many at most."""
        with self._lock:
            taken = {share.name for share in self.phase(step).setting.sources if share.weight}
            return {order.name: order.upcoming(n, number) for order, n in self._used(step) if order.name in taken}

    def past(self, step: int) -> Past:
        """What is to be saved once so many steps are made."""
        if not step:
            return Past(0, ())
        with self._lock:
            bookmarks = {order.name: order.bookmark(count) for order, count in self._used(step - 1, more=1)}
            found = {name: bookmark for name, bookmark in bookmarks.items() if bookmark}
            return Past(step, self.phases(step - 1), found)

    def cursors(self, step: int) -> dict[str, Cursor]:
        """Where every source of a step's phase stands before it."""
        with self._lock:
            return {order.name: order.cursor(count) for order, count in self._used(step)}

    def epochs(self, step: int) -> dict[str, float]:
        """How many epochs of each source are used up before a step, also of those that have left by then."""
        with self._lock:
            table = self.phases(step)
            ends = [*(phase.first_sample for phase in table[1:]), self.first_sample(step)]
            used = [self._counted(phase, end - phase.first_sample) for phase, end in zip(table, ends, strict=True)]
            return {order.name: order.epochs(count) for orders in used for order, count in orders}

    def in_windows(self) -> "Order":
        """The order if nothing were packed: no shard is opened to tell where it stands, about where this one does."""
        first, *later = self._known
        changes = [*(Change(one.first_step, one.setting, one.skipped_steps) for one in later), *self._changes]
        cut = [replace(one, setting=one.setting and one.setting.in_windows()) for one in changes]
        return Order(self.cuts, self._seed, [replace(first, setting=first.setting.in_windows())], cut)

    def repeated(self, step: int) -> list[str]:
        """The sources of which something has come a second time before a step."""
        cursors = dict(self.phase(step).cursors) | self.cursors(step)
        return sorted(name for name, cursor in cursors.items() if cursor.epoch and cursor != Cursor(1))

    def _used(self, step: int, more: int = 0) -> list[tuple[SourceOrder, int]]:
        """The order of each source of a step's phase, and what is used up of it before that step or `more` later."""
        phase = self.phase(step)
        return self._counted(phase, (step + more - phase.first_step) * phase.setting.global_batch)

    def _counted(self, phase: Phase, samples: int) -> list[tuple[SourceOrder, int]]:
        mixture, orders = self.of(phase)
        return list(zip(orders, mixture.counts(phase.offset + samples), strict=True))

    def _compute(self, phase: Phase) -> tuple[Mixture, list[SourceOrder]]:
        sources, cut, cursors = phase.setting.sources, phase.setting.cut, dict(phase.cursors)
        first = phase.first_sample - phase.offset
        mixture = Mixture([source.weight for source in sources], self._seed, "mixture", first)
        return mixture, [
            self._source_order(one.name, one.num_shards, cut, cursors.get(one.name, Cursor())) for one in sources
        ]


def _moved(cursor: Cursor, was: Setting, now: Setting, name: str) -> Cursor:
    """A cursor under another setting: an open shard is cut on, an unopened epoch gets the shards that were appended."""
    if cursor.taken and was.cut != now.cut:
        cursor = replace(cursor, taken=0, earlier=(*cursor.earlier, Taken(was.cut, cursor.taken)))
    before = cursor.num_shards or _num_shards(was, name)
    is_begun = cursor.place or cursor.taken or cursor.earlier
    return replace(cursor, num_shards=before if is_begun and before != _num_shards(now, name) else None)


def _num_shards(setting: Setting, name: str) -> int | None:
    return next((source.num_shards for source in setting.sources if source.name == name), None)
