"""From a config to phases: the setting that a run begins with, its changes, and whether a resumed run still fits.

A config says what holds from step 0 on, what changes at which step, and what is skipped. What was trained already is
in the phase table of the last checkpoint. A config that says something else about those steps is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from pipeline.config.data import CorpusData, DataPhase, SourceWeight
from pipeline.config.run import RunConfig
from pipeline.data.loader import Sequences
from pipeline.data.mixture import WEIGHT_TOTAL, integer_weights
from pipeline.data.phases import Change, Phase, Setting, SourceShare
from pipeline.errors import CheckpointError, ConfigError


def source_names(data: CorpusData) -> dict[tuple[str, str], str]:
    """The name of each source of a config, by corpus and source; one that two corpora have gets a number."""
    names: dict[tuple[str, str], str] = {}
    for entry in (entry for sources in _all_sources(data) for entry in sources):
        key = (entry.corpus, entry.source)
        if key not in names:
            names[key] = entry.source if entry.source not in names.values() else f"{entry.source}#{len(names)}"
    return names


def _all_sources(data: CorpusData) -> Iterator[Sequence[SourceWeight]]:
    yield data.sources
    yield from (phase.sources for phase in data.phases if phase.sources)


def planned(config: RunConfig, source: Sequences) -> tuple[Phase, list[Change]]:
    """The first phase of a new run, and the changes to come."""
    first, *changes = _settings(config, source, {})
    return Phase(0, 0, first), _with_skips(config, changes)


def continued(config: RunConfig, source: Sequences, table: Sequence[Phase], step: int) -> list[Change]:
    """The changes to come of a run that has trained `step` steps by a phase table.

    Shards that were appended since then are one of them.

    Raises:
        ConfigError: The config says something else about those steps.
        CheckpointError: A source's shards are not those that were read.
    """
    last = table[-1].setting
    for share in last.sources:
        if source.fingerprint(share.name, share.num_shards) != share.fingerprint:
            raise CheckpointError(
                f"data of source {share.name!r} changed since step {step};"
                " restore it, or choose another output and start from the weights"
            )
    _require_same_past(config, source, table, step)
    coming = [change for change in _with_skips(config, _settings(config, source, {})[1:]) if change.step >= step]
    grown = replace(last, sources=tuple(_grown(share, source) for share in last.sources))
    return [Change(step, grown), *coming] if grown != last else coming


def _grown(share: SourceShare, source: Sequences) -> SourceShare:
    number = len(source.shards[share.name].num_positions)
    return replace(share, num_shards=number, fingerprint=source.fingerprint(share.name, number))


def _settings(config: RunConfig, source: Sequences, counts: Mapping[str, int]) -> list[Any]:
    """The setting at step 0, and a change for each of the config's phases.

    Sources have as many shards as they have now, or as `counts` says.
    """
    data = config.data
    if not isinstance(data, CorpusData):
        name = next(iter(source.shards))
        share = SourceShare(name, source.fingerprint(name, 1), 1, integer_weights([1])[0])
        return [Setting((share,), data.sequence_length, config.batch.global_size, "whole")]
    shares = _shares(data.sources, data.temperature, data, source, counts)
    setting = Setting(shares, data.sequence_length, config.batch.global_size, data.packing, data.mask_documents)
    found: list[Any] = [setting]
    for stretch, phase in zip(config.stretches[1:], data.phases, strict=True):
        setting = _changed(setting, phase, data, source, counts)
        found.append(Change(stretch.first_step, setting))
    return found


def _changed(
    setting: Setting, phase: DataPhase, data: CorpusData, source: Sequences, counts: Mapping[str, int]
) -> Setting:
    """A setting with what a phase of the config names."""
    values: dict[str, Any] = {
        "sequence_length": phase.sequence_length,
        "global_batch": phase.global_size,
        "packing": phase.packing,
        "mask_documents": phase.mask_documents,
    }
    if phase.sources or phase.temperature:
        sources, temperature = phase.sources or data.sources, phase.temperature or data.temperature
        values["sources"] = _shares(sources, temperature, data, source, counts)
    return replace(setting, **{name: value for name, value in values.items() if value is not None})


def _shares(
    entries: Sequence[SourceWeight],
    temperature: float | None,
    data: CorpusData,
    source: Sequences,
    counts: Mapping[str, int],
) -> tuple[SourceShare, ...]:
    names = source_names(data)
    here = [names[entry.corpus, entry.source] for entry in entries]
    numbers = [counts.get(name, len(source.shards[name].num_positions)) for name in here]
    tokens = [int(source.shards[name].num_positions[:n].sum()) for name, n in zip(here, numbers, strict=True)]
    weights = [_weight(entry, size, temperature) for entry, size in zip(entries, tokens, strict=True)]
    return tuple(
        SourceShare(name, source.fingerprint(name, number), number, weight)
        for name, number, weight in zip(here, numbers, integer_weights(weights), strict=True)
    )


def _weight(entry: SourceWeight, tokens: int, temperature: float | None) -> float:
    if entry.epochs is not None:
        return entry.epochs * tokens
    return (1.0 if entry.weight is None else entry.weight) * (tokens ** (1 / temperature) if temperature else 1.0)


def _with_skips(config: RunConfig, changes: Sequence[Change]) -> list[Change]:
    """Changes and skips by step; what is skipped at the step of a change is skipped before it."""
    skips = config.data.skip if isinstance(config.data, CorpusData) else ()
    jumps = [Change(begin, skipped_steps=end - begin) for begin, end in skips]
    return sorted([*jumps, *changes], key=lambda change: change.step)


def _require_same_past(config: RunConfig, source: Sequences, table: Sequence[Phase], step: int) -> None:
    counts = {share.name: share.num_shards for phase in table for share in phase.setting.sources}
    first, *changes = _settings(config, source, counts)
    now = _history([Change(0, first), *(change for change in _with_skips(config, changes) if change.step < step)])
    was = _history([Change(phase.first_step, phase.setting, phase.skipped_steps) for phase in table])
    for before, after in zip_longest(was, now):
        if before != after:
            raise ConfigError(f"run {config.output} is at step {step}: {_difference(before, after, step)}")


_Event = tuple[int, int, dict[str, Any]]
"""Step, steps skipped there, and what a config decides of the setting."""


def _history(changes: Sequence[Change]) -> list[_Event]:
    """What happened, without shards that were appended and chunks that were damaged: no config says that."""
    events: list[_Event] = []
    for change in changes:
        values = _decided(change.setting) if change.setting else events[-1][2]
        if not events or change.skipped_steps or values != events[-1][2]:
            events.append((change.step, change.skipped_steps, values))
    return events


def _decided(setting: Setting) -> dict[str, Any]:
    shares = {share.name: share.weight / WEIGHT_TOTAL for share in setting.sources}
    values = {name: getattr(setting, name) for name in ("sequence_length", "packing", "mask_documents", "withdrawn")}
    return {"sources": shares, "global_size": setting.global_batch, **values}


def _difference(was: _Event | None, now: _Event | None, step: int) -> str:
    """Which key was, is, and what to do."""
    if was is None or (now is not None and now[0] < was[0]):
        assert now is not None
        what = f"data.skip begins at step {now[0]}" if now[1] else f"a phase of data.phases begins at step {now[0]}"
        return f"{what}, and steps up to {step} are trained without it; let it begin at step {step} or later"
    if now is None or was[0] < now[0]:
        what = f"data.skip had a range from step {was[0]} on" if was[1] else f"a phase began at step {was[0]}"
        return f"{what}, which the config lacks; put it back, and change what comes from step {step} on"
    if was[1] != now[1]:
        return f"data.skip passed over {was[1]} steps at step {was[0]}, and is {now[1]} steps; restore it"
    changed = {key: (was[2][key], now[2][key]) for key in was[2] if was[2][key] != now[2][key]}
    named = "; ".join(f"{_KEYS.get(key, f'data.{key}')} was {old!r}, is {new!r}" for key, (old, new) in changed.items())
    entry = ", ".join(
        [
            f"at_step: {step}",
            *(f"{key}: …" if key == "sources" else f"{key}: {new}" for key, (_, new) in changed.items()),
        ]
    )
    return f"{named}; restore that, and to change it from here on add to data.phases: {{{entry}}}"


_KEYS = {"global_size": "batch.global_size"}
"""Names of keys that are not in the data's block."""
