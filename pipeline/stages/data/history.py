"""What a run has been told about its data, phase by phase: to compare a config with it, and for the journal."""

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from pipeline.data.mixture import WEIGHT_TOTAL
from pipeline.data.phases import Change, Phase, Setting
from pipeline.errors import ConfigError

_KEYS = {"global_size": "batch.global_size"}
"""Names of keys that are not in the data's block."""


class _Event(NamedTuple):
    """Something that a config decides."""

    step: int
    skipped_steps: int
    values: Mapping[str, Any]
    """What holds from then on."""


def require_same_past(
    output: str, told: Sequence[Change], table: Sequence[Phase], step: int, rolled_back: Collection[int],
    has_phases: bool,
) -> None:  # fmt: skip
    """Compare what config and journal say of the steps that are trained with the phases they were trained by.

    `rolled_back` are the steps to which the run went back, as the journal tells. Where the config's data can have
    phases, say how to change what comes.

    Raises:
        ConfigError: They say something else: which key, what it was, what it is, and what to do.
    """
    was = _history([Change(phase.first_step, phase.setting, phase.skipped_steps) for phase in table])
    for before, after in zip_longest(was, _history(told)):
        if before != after:
            difference = _difference(before, after, step, rolled_back, has_phases)
            raise ConfigError(f"run {output} is at step {step}: {difference}")


def changes_between(was: Setting, now: Setting) -> dict[str, list[Any]]:
    """Each key that differs between two phases, with what it was and what it is, for the journal."""
    before, after = _decided(was), _decided(now)
    for values, setting in ((before, was), (after, now)):
        values["shards"] = {share.name: share.num_shards for share in setting.sources}
        values["quarantined"] = [list(lost) for lost in setting.holes.quarantined]
    return {key: [before[key], after[key]] for key in before if before[key] != after[key]}


def told(changed: Mapping[str, Sequence[Any]], skipped_samples: int) -> str:
    """The same in a line, for people."""
    keys = [f"{key} was {_shown(was)}, is {_shown(now)}" for key, (was, now) in changed.items()]
    return "; ".join(keys + [f"{skipped_samples} samples are skipped"] * bool(skipped_samples))


def _history(changes: Sequence[Change]) -> list[_Event]:
    """What happened, without shards that were appended and chunks that were damaged: no config says that."""
    events: list[_Event] = []
    for change in changes:
        values = _decided(change.setting) if change.setting else events[-1].values
        if not events or change.skipped_steps or values != events[-1].values:
            events.append(_Event(change.step, change.skipped_steps, values))
    return events


def _decided(setting: Setting) -> dict[str, Any]:
    return {
        "sources": {share.name: share.weight / WEIGHT_TOTAL for share in setting.sources},
        "global_size": setting.global_batch,
        "sequence_length": setting.sequence_length,
        "packing": setting.packing,
        "mask_documents": setting.mask_documents,
        "withdrawn": setting.holes.withdrawn,
    }


def _difference(
    was: _Event | None, now: _Event | None, step: int, rolled_back: Collection[int], has_phases: bool
) -> str:
    """Which key was, is, and what to do."""
    if was is None or (now is not None and now.step < was.step):
        assert now is not None
        return _not_trained(now, step, rolled_back)
    if now is None or was.step < now.step:
        what = (
            f"data.skip had a range from step {was.step} on, which the config lacks (or journal.jsonl a rollback)"
            if was.skipped_steps
            else f"a phase began at step {was.step}, which the config lacks"
        )
        return f"{what}; put it back, and change what comes from step {step} on"
    if was.skipped_steps != now.skipped_steps:
        what = "data.skip, with rollbacks in journal.jsonl," if now.step in rolled_back else "data.skip"
        return (
            f"{what} passed over {was.skipped_steps} steps at step {was.step}, and is {now.skipped_steps};"
            " restore it, and skip more at a later step"
        )
    return _changed_keys(was, now, step, has_phases)


def _not_trained(now: _Event, step: int, rolled_back: Collection[int]) -> str:
    """That something is said of steps that were trained without it."""
    what = f"data.skip begins at step {now.step}" if now.skipped_steps else f"data.phases has one at step {now.step}"
    cure = f"let it begin at step {step} or later"
    if now.step in rolled_back:
        what = f"data.skip or a rollback in journal.jsonl passes over data at step {now.step}"
        cure += f", or set aside checkpoints behind step {now.step} that are of an abandoned branch"
    return f"{what}, and steps up to {step} are trained without it; {cure}"


def _changed_keys(was: _Event, now: _Event, step: int, has_phases: bool) -> str:
    changed = [key for key in was.values if was.values[key] != now.values[key]]
    named = "; ".join(
        f"{_KEYS.get(key, f'data.{key}')} was {_shown(was.values[key])}, is {_shown(now.values[key])}"
        for key in changed
    )
    whence = f" from step {was.step} on" if was.step else ""
    if not has_phases:
        return f"{named}{whence}; restore that, or choose another output"
    wanted = (f"{key}: {'…' if key in ('sources', 'withdrawn') else _shown(now.values[key])}" for key in changed)
    entry = ", ".join([f"at_step: {step}", *wanted])
    return f"{named}{whence}; restore that, and to change it from here on add to data.phases: {{{entry}}}"


def _shown(value: Any) -> str:
    """A value as a config spells it, short."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {share:.9g}" for name, share in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)[:12] or "none"
