"""Rollbacks of a run: the model goes back to a checkpoint, the data do not.

What came since the checkpoint is passed over at its step, each stretch under the setting under which it came; so none
of it comes again, whatever became of mixture, cut or batch on the way. What the config says of that step and later ones
holds as before. The journal keeps each rollback, from which every later start computes the same order.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.data.order import Order
from pipeline.data.phases import Change, Phase, Setting
from pipeline.errors import RunError
from pipeline.runtime.journal import Journal

ROLLBACK = "rollback"
"""The event's name in the journal."""


@dataclass(frozen=True)
class Rollback:
    """A rollback that was decided."""

    branch: int
    """Number of the branch of steps that it begins; a run begins with branch 0."""
    step: int
    """Steps of the checkpoint that it goes back to, at least 1."""
    from_step: int
    """Steps that were made by then; those behind `step` are abandoned."""
    skipped_steps: int
    """What is passed over in steps of the batch that holds at `step`, rounded up. For people: `passed` decides."""
    passed: tuple[Change, ...]
    """What is passed over, as changes at `step`; behind the last one holds what the config says."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        values: dict[str, Any] = _ROLLBACK.dump_python(self, mode="json")
        return values


_ROLLBACK = TypeAdapter(Rollback)


def read_rollbacks(folder: str | Path) -> tuple[Rollback, ...]:
    """The rollbacks in a run folder's journal, oldest first. Raises RunError if one is damaged."""
    events = (event for event in Journal(folder).read() if event["event"] == ROLLBACK)
    try:
        return tuple(map(_ROLLBACK.validate_python, events))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise RunError(f"journal.jsonl of run {folder} has a rollback whose {place} is wrong; restore it") from error


def in_force(rollbacks: Iterable[Rollback]) -> list[Rollback]:
    """Those that hold, by step: one to the same step or an earlier one takes the place of those before it."""
    found: list[Rollback] = []
    for rollback in rollbacks:
        found = [*(one for one in found if one.step < rollback.step), rollback]
    return found


def is_left(rollbacks: Iterable[Rollback], step: int, branch: int) -> bool:
    """Whether a checkpoint of so many steps, made on a branch, lies behind what a later rollback went back to."""
    return any(one.branch > branch and one.step < step for one in rollbacks)


def rolled_back(order: Order, step: int, from_step: int, earlier: Sequence[Rollback]) -> Rollback:
    """The rollback to a checkpoint of `step` steps once `from_step` steps are made, in the order by which they were.

    It passes over all that they saw or passed over themselves. `earlier` are all of the run's rollbacks so far.
    """
    stretches = list(_stretches(order.phases(from_step - 1), step, from_step))
    samples = sum(setting.global_batch * number for setting, number in stretches)
    merged: list[tuple[Setting, int]] = []
    for setting, number in stretches:
        if merged and setting.comes_as(merged[-1][0]):
            setting, number = merged[-1][0], merged.pop()[1] + number
        merged.append((setting, number))
    following = [*(setting for setting, _ in merged[1:]), None]
    passed = (Change(step, after, number) for (_, number), after in zip(merged, following, strict=True))
    skipped_steps = -(-samples // order.phase(step).setting.global_batch)
    return Rollback(len(earlier) + 1, step, from_step, skipped_steps, tuple(passed))


def _stretches(table: Sequence[Phase], step: int, from_step: int) -> Iterator[tuple[Setting, int]]:
    """What came between two steps: settings, and for how many steps each."""
    begun = [phase for phase in table[1:] if phase.first_step >= step]
    setting, begin = table[-len(begun) - 1].setting, step
    for phase in begun:
        yield setting, phase.first_step - begin + phase.skipped_steps
        setting, begin = phase.setting, phase.first_step
    yield setting, from_step - begin


def with_rollbacks(setting: Setting, changes: Sequence[Change], rollbacks: Sequence[Rollback]) -> list[Change]:
    """Changes by step, with what rollbacks in force pass over.

    Behind each of them holds what the config says of its step; there is no other setting in between, for which open
    shards would be cut anew. What the config skips at that step is skipped after it.

    Args:
        setting: What holds before the first change.
        changes: What the config says, by step.
        rollbacks: By step.
    """
    found: list[Change] = []
    rest = deque(changes)
    for rollback in rollbacks:
        while rest and rest[0].step <= rollback.step:
            found.append(rest.popleft())
        skips = [one for one in found if one.step == rollback.step and not one.setting]
        held = next((one.setting for one in reversed(found) if one.setting), setting)
        *before, last = rollback.passed
        found = [one for one in found if one.step < rollback.step] + [*before, replace(last, setting=held), *skips]
    return [*found, *rest]
