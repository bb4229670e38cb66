"""`tarmac data`: what a run would see, before it starts: tokens and epochs of each source, phase by phase."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config.data import CorpusData
from pipeline.config.run import RunConfig
from pipeline.data.cuts import Cut, Cuts, ShardCut
from pipeline.data.loader import Sequences
from pipeline.data.mixture import WEIGHT_TOTAL, Mixture
from pipeline.data.phases import Change, Phase, Setting
from pipeline.stages.data.plan import planned
from pipeline.stages.data.rollbacks import read_rollbacks

MOST_PACKED = 8
"""Shards of a source that are packed at most, to know how full its sequences are."""


@dataclass(frozen=True)
class Fill:
    """How full the sequences of a source are."""

    positions: float
    """Of a sequence, on average."""
    utilisation: float
    """Their share of the sequence length."""
    packed_shards: int
    """Shards that were packed to know it; 0: none has to be."""
    num_shards: int

    @property
    def is_estimated(self) -> bool:
        """Whether only some shards were packed."""
        return 0 < self.packed_shards < self.num_shards


@dataclass(frozen=True)
class SourcePart:
    """What a phase takes from a source."""

    name: str
    weight: float
    sequences: int
    tokens: int
    """Without padding; of conversations, how many."""
    first_epoch: float
    """Epochs gone through before the phase."""
    last_epoch: float
    """And behind it."""
    fill: Fill


@dataclass(frozen=True)
class PhasePart:
    """A phase within the run's steps."""

    first_step: int
    """From 0."""
    last_step: int
    """The one behind its last."""
    skipped_steps: int
    """Steps' worth of samples passed over right before it."""
    first_sample: int
    sequence_length: int
    global_size: int
    packing: str
    sources: tuple[SourcePart, ...]


@dataclass(frozen=True)
class DataTable:
    """A run's data."""

    phases: tuple[PhasePart, ...]
    tokens: dict[str, int]
    """Of each source, in the whole run."""
    epochs: dict[str, float]
    """How often each source is gone through, what is skipped included."""
    warnings: tuple[str, ...]


def data_table(config: RunConfig, source: Sequences) -> DataTable:
    """Count the samples of each phase, and from them tokens and epochs; no shard is packed but a few."""
    first, changes = planned(config, source, read_rollbacks(config.output))
    counting = _Counting(Cuts(source.shards, config.seed), config.seed, first)
    for change in changes:
        if change.step < config.num_steps:
            counting.go_on(change)
    counting.take_until(config.num_steps)
    stops = isinstance(config.data, CorpusData) and config.data.at_end == "stop"
    epochs = counting.epochs()
    warnings = tuple(_repeated(name, often, counting.parts, stops) for name, often in epochs.items() if often > 1)
    return DataTable(tuple(counting.parts), dict(counting.tokens), epochs, warnings)


class _Counting:
    """Goes from phase to phase and counts; unlike the order it needs no shard's cursor."""

    def __init__(self, cuts: Cuts, seed: int, first: Phase) -> None:
        self._cuts, self._seed = cuts, seed
        self.parts: list[PhasePart] = []
        self.tokens, self._used = Counter[str](), Counter[str]()
        self._totals: dict[str, int] = {}
        self._fills: dict[tuple[str, Cut, int], Fill] = {}
        self._step = self._sample = self._skipped = 0
        self._begin(first.setting)

    def _begin(self, setting: Setting) -> None:
        self._setting, self._in_mixture = setting, 0
        self._mixture = Mixture([one.weight for one in setting.sources], self._seed, "mixture", self._sample)
        for one in setting.sources:
            positions = self._cuts.sources[one.name].num_positions[: one.num_shards]
            self._totals[one.name] = int(positions.sum())

    def go_on(self, change: Change) -> None:
        """Count up to a change, pass over what it skips, and begin what it sets."""
        self.take_until(change.step)
        self._skipped += change.skipped_steps
        for name, number, fill in self._advance(change.skipped_steps):
            self._used[name] += round(number * fill.positions)
        setting = change.setting or self._setting
        if setting.comes_as(self._setting):
            self._setting = setting  # and the mixture goes on, as in the order
        else:
            self._begin(setting)

    def take_until(self, step: int) -> None:
        """Count the steps up to this one as a phase."""
        first, number, setting = self._sample, step - self._step, self._setting
        if number:
            taken = [self._part(*one) for one in self._advance(number)]
            self.parts.append(PhasePart(self._step, step, self._skipped, first, setting.sequence_length,
                                        setting.global_batch, setting.packing, tuple(taken)))  # fmt: skip
            self._step, self._skipped = step, 0

    def _advance(self, num_steps: int) -> list[tuple[str, int, Fill]]:
        """How many sequences of each source so many steps take."""
        before = self._mixture.counts(self._in_mixture)
        samples = num_steps * self._setting.global_batch
        self._in_mixture, self._sample = self._in_mixture + samples, self._sample + samples
        after = self._mixture.counts(self._in_mixture)
        return [
            (one.name, late - early, self._fill(one.name, one.num_shards))
            for one, early, late in zip(self._setting.sources, before, after, strict=True)
        ]

    def _part(self, name: str, sequences: int, fill: Fill) -> SourcePart:
        weight = next(one.weight for one in self._setting.sources if one.name == name) / WEIGHT_TOTAL
        first, total, tokens = self._used[name], self._totals[name], round(sequences * fill.positions)
        self._used[name] += tokens
        self.tokens[name] += tokens
        return SourcePart(name, weight, sequences, tokens, first / total, self._used[name] / total, fill)

    def _fill(self, name: str, num_shards: int) -> Fill:
        key = name, self._setting.cut, num_shards
        if key not in self._fills:
            self._fills[key] = _fill(self._cuts, *key)
        return self._fills[key]

    def epochs(self) -> dict[str, float]:
        """How often each source has been gone through."""
        return {name: used / self._totals[name] for name, used in self._used.items()}


def _fill(cuts: Cuts, name: str, cut: Cut, num_shards: int) -> Fill:
    positions, sizes = cuts.sources[name].num_positions[:num_shards], cuts.sizes(name, cut)
    packed = np.empty(0, np.int64)
    if sizes is None:
        packed = np.unique(np.linspace(0, num_shards - 1, MOST_PACKED).round().astype(np.int64))
        positions = positions[packed]
        sizes = np.array([cuts.size(ShardCut(name, 0, shard, cut)) for shard in packed.tolist()])
    mean = float(positions.sum()) / max(1, int(sizes[: len(positions)].sum()))
    return Fill(mean, 1.0 if cut.packing == "whole" else mean / cut.sequence_length, len(packed), num_shards)


def _repeated(name: str, epochs: float, parts: Sequence[PhasePart], stops: bool) -> str:
    """That a source is repeated, and from about which step on."""
    for part in parts:
        for one in part.sources:
            if one.name == name and one.last_epoch > max(1, one.first_epoch):
                share = max(0, 1 - one.first_epoch) / (one.last_epoch - one.first_epoch)
                step = part.first_step + round(share * (part.last_step - part.first_step))
                end = "where data.at_end: stop ends the run" if stops else "and then again"
                return f"source {name} would be gone through {epochs:.2f} times: once by about step {step:,}, {end}"
    return f"source {name} would be gone through {epochs:.2f} times, most of which is skipped"
