"""From a config to phases: the setting that a run begins with, its changes, and whether a resumed run still fits.

A config says what holds from step 0 on, what changes at which step, and what is skipped. What was trained already is
in the phase table of the last checkpoint. A config that says something else about those steps is refused.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pipeline.config.data import CorpusData, DataPhase, SourceWeight
from pipeline.config.run import RunConfig
from pipeline.data import mixture
from pipeline.data.cuts import Cuts
from pipeline.data.holes import read_withdrawn
from pipeline.data.loader import Sequences
from pipeline.data.mixture import integer_weights
from pipeline.data.order import Order
from pipeline.data.phases import Change, Past, Phase, Setting, SourceShare
from pipeline.engine.checkpoint.commit import Commit
from pipeline.errors import CheckpointError, ConfigError
from pipeline.stages.data.history import require_same_past
from pipeline.stages.data.rollbacks import Rollback, in_force, with_rollbacks

_Counts = Mapping[str, int]
"""Shards of each source, where it has not all that it has now."""


def source_names(data: CorpusData) -> dict[tuple[str, str], str]:
    """The name of each source of a config, by corpus and source; one that two corpora have gets a number."""
    return mixture.source_names((entry.corpus, entry.source) for sources in _all_sources(data) for entry in sources)


def _all_sources(data: CorpusData) -> Iterator[Sequence[SourceWeight]]:
    yield data.sources
    yield from (phase.sources for phase in data.phases if phase.sources)


def withdrawn_files(data: CorpusData) -> list[str]:
    """The files of withdrawn documents that a config names."""
    return [path for path in (data.withdrawn, *(phase.withdrawn for phase in data.phases)) if path]


def planned(config: RunConfig, source: Sequences, rollbacks: Sequence[Rollback] = ()) -> tuple[Phase, list[Change]]:
    """The first phase of a run, and the changes to come; `rollbacks` are all that its journal tells.

    Raises:
        ConfigError: A file of ids is none, or a rollback passes over a source that the config lacks.
        CheckpointError: A source's shards are not those that a rollback passes over.
    """
    first, *changes = _with_skips(config, _Plan(config, source).changes())
    assert first.setting is not None
    coming = in_force(rollbacks)
    _require_passed_shards(config, source, coming)
    return Phase(0, 0, first.setting), with_rollbacks(first.setting, changes, coming)


def continued(config: RunConfig, source: Sequences, past: Past, rollbacks: Sequence[Rollback] = ()) -> list[Change]:
    """The changes to come of a run that has made some steps; `rollbacks` are all that its journal tells.

    Shards that were appended since then are one of them.

    Raises:
        ConfigError: The config or the journal says something else about those steps, or a rollback to come passes over
            a source that the config lacks.
        CheckpointError: A source's shards are not those that were read.
    """
    table, step = past.phases, past.step
    _require_same_shards(source, (phase.setting for phase in table), step)
    first, *changes = _with_skips(config, _Plan(config, source, table, step).changes())
    assert first.setting is not None
    back = in_force(rollbacks)
    told = [first, *with_rollbacks(first.setting, changes, back)]
    require_same_past(config.output, [change for change in told if change.step < step], table, step,
                      {one.step for one in back}, has_phases=isinstance(config.data, CorpusData))  # fmt: skip
    coming = [one for one in back if one.step >= step]
    _require_passed_shards(config, source, coming)
    last, grown = table[-1].setting, _grown(table[-1].setting, source)
    later = [Change(step, grown)] * (grown != last) + [change for change in changes if change.step >= step]
    return with_rollbacks(last, later, coming)


def order_of(config: RunConfig, source: Sequences, commit: Commit | None, rollbacks: Sequence[Rollback]) -> Order:
    """The order of a run from a checkpoint on, or from its beginning. Raises as `continued` does.

    Args:
        config: What the run is to do.
        source: Its sequences.
        commit: The checkpoint.
        rollbacks: All that the run's journal tells: `read_rollbacks`.
    """
    if commit is None:
        return order_after(config, source, Past(0, ()), rollbacks)
    if "data" not in commit.state:
        raise CheckpointError(
            f"checkpoint {commit.step} of run {config.output} is of an earlier version of Tarmac; go on with that one"
        )
    return order_after(config, source, Past.from_json(commit.state["data"]), rollbacks)


def order_after(config: RunConfig, source: Sequences, past: Past, rollbacks: Sequence[Rollback] = ()) -> Order:
    """The order of a run that has made some steps, or none. Raises as `continued` does."""
    cuts = Cuts(source.shards, config.seed)
    if not past.phases:
        first, changes = planned(config, source, rollbacks)
        return Order(cuts, config.seed, [first], changes)
    return Order(cuts, config.seed, past.phases, continued(config, source, past, rollbacks), past.bookmarks)


def _require_passed_shards(config: RunConfig, source: Sequences, rollbacks: Iterable[Rollback]) -> None:
    """What is passed over must be there: its sizes tell where to go on."""
    for rollback in rollbacks:
        settings = [change.setting for change in rollback.passed if change.setting]
        for share in (share for setting in settings for share in setting.sources):
            if share.name not in source.shards:
                raise ConfigError(
                    f"run {config.output} went back to step {rollback.step} behind steps with source {share.name!r},"
                    " which the config lacks; name it in data.phases, with weight 0 where it is not to come again"
                )
        _require_same_shards(source, settings, rollback.from_step)


def _require_same_shards(source: Sequences, settings: Iterable[Setting], step: int) -> None:
    shares = {share.name: share for setting in settings for share in setting.sources}
    for share in shares.values():
        if share.name not in source.shards:
            continue  # the config lacks it, which is told where the config is compared
        if source.fingerprint(share.name, share.num_shards) != share.fingerprint:
            raise CheckpointError(
                f"data of source {share.name!r} changed since step {step};"
                " restore it, or choose another output and start from the weights"
            )


def _grown(setting: Setting, source: Sequences) -> Setting:
    """A setting with the shards that its sources have now; weights stay."""
    shares = []
    for share in setting.sources:
        if share.name not in source.shards:  # the config lacks it, which is told where the config is compared
            shares.append(share)
            continue
        number = len(source.shards[share.name].num_positions)
        shares.append(replace(share, num_shards=number, fingerprint=source.fingerprint(share.name, number)))
    return replace(setting, sources=tuple(shares))


class _Plan:
    """What a config says step by step; of steps that are trained, with the shards that there were."""

    def __init__(self, config: RunConfig, source: Sequences, table: Sequence[Phase] = (), step: int = 0) -> None:
        self._config, self._source, self._table, self._step = config, source, table, step

    def changes(self) -> list[Change]:
        """The setting at step 0, and one for each of the config's phases."""
        config, data = self._config, self._config.data
        if not isinstance(data, CorpusData):
            [name] = self._source.shards
            share = SourceShare(name, self._source.fingerprint(name, 1), 1, integer_weights([1])[0])
            return [Change(0, Setting((share,), data.sequence_length, config.batch.global_size, "whole"))]
        entries, temperature = data.sources, data.temperature
        setting = Setting(self._shares(entries, temperature, 0), data.sequence_length, config.batch.global_size,
                          data.packing, data.mask_documents)  # fmt: skip
        setting = _without(setting, data.withdrawn)
        found, is_past = [Change(0, setting)], True
        for stretch, phase in zip(config.stretches[1:], data.phases, strict=True):
            if self._table and is_past and stretch.first_step >= self._step:
                setting, is_past = _grown(self._table[-1].setting, self._source), False
            setting = _changed(setting, phase)
            if phase.sources or phase.temperature:
                entries, temperature = phase.sources or entries, phase.temperature or temperature
                setting = replace(setting, sources=self._shares(entries, temperature, stretch.first_step))
            found.append(Change(stretch.first_step, setting))
        return found

    def _counts(self, step: int) -> _Counts:
        """Shards of each source when a mixture was named: of a step that is trained, as its phase says."""
        begun = [phase for phase in self._table if phase.first_step <= step < self._step]
        return {share.name: share.num_shards for share in begun[-1].setting.sources} if begun else {}

    def _shares(self, entries: Sequence[SourceWeight], temperature: float | None, step: int) -> tuple[SourceShare, ...]:
        assert isinstance(self._config.data, CorpusData)
        names, counts, source = source_names(self._config.data), self._counts(step), self._source
        here = [names[entry.corpus, entry.source] for entry in entries]
        numbers = [counts.get(name, len(source.shards[name].num_positions)) for name in here]
        tokens = [int(source.shards[name].num_positions[:n].sum()) for name, n in zip(here, numbers, strict=True)]
        weights = [_weight(entry, size, max(tokens), temperature) for entry, size in zip(entries, tokens, strict=True)]
        return tuple(
            SourceShare(name, source.fingerprint(name, number), number, weight)
            for name, number, weight in zip(here, numbers, integer_weights(weights), strict=True)
        )


def _changed(setting: Setting, phase: DataPhase) -> Setting:
    """A setting with what a phase of the config names, but for the mixture."""
    setting = replace(
        setting,
        sequence_length=phase.sequence_length or setting.sequence_length,
        global_batch=phase.global_size or setting.global_batch,
        packing=phase.packing or setting.packing,
        mask_documents=setting.mask_documents if phase.mask_documents is None else phase.mask_documents,
    )
    return _without(setting, phase.withdrawn)


def _without(setting: Setting, withdrawn: str | None) -> Setting:
    """A setting without the documents of a file."""
    if withdrawn is None:
        return setting
    return replace(setting, holes=setting.holes._replace(withdrawn=read_withdrawn(withdrawn)[0]))


def _weight(entry: SourceWeight, tokens: int, most: int, temperature: float | None) -> float:
    if entry.epochs is not None:
        return entry.epochs * tokens
    share = (tokens / most) ** (1 / temperature) if temperature else 1.0
    share = float(f"{share:.12g}")  # a power's last bits differ between machines
    return (1.0 if entry.weight is None else entry.weight) * max(share, sys.float_info.min)


def _with_skips(config: RunConfig, changes: Sequence[Change]) -> list[Change]:
    """Changes and skips by step; what is skipped at the step of a change is skipped before it."""
    skips = config.data.skip if isinstance(config.data, CorpusData) else ()
    jumps = [Change(begin, skipped_steps=end - begin) for begin, end in skips]
    first = [change for change in changes if change.step == 0]
    return [*first, *sorted([*jumps, *(one for one in changes if one.step)], key=lambda change: change.step)]
