"""Finding the newest checkpoint that verifies, by all ranks together; bad ones are set aside."""

from collections.abc import Callable
from pathlib import Path

from pipeline.engine.checkpoint.commit import (
    Commit,
    committed_steps,
    faults,
    read_commit,
    set_aside,
    step_name,
    unlisted,
)
from pipeline.engine.process_group import ProcessGroup
from pipeline.errors import CheckpointError, FormatError, UnreadableError

OnCorrupt = Callable[[str, str], None]
"""Told the folder name and the reason, on rank 0."""


def newest_good(
    group: ProcessGroup, checkpoints: Path, on_corrupt: OnCorrupt, last_step: int | None = None
) -> Commit | None:
    """The commit of the newest checkpoint that verifies; None if there never was one. The ranks share the work.

    Args:
        group: All ranks, each of which calls it.
        checkpoints: The run's `checkpoints` folder.
        on_corrupt: Told of each that does not verify, after it was set aside.
        last_step: Of checkpoints up to this step; all if not given.

    Raises:
        CheckpointError: There were checkpoints, and none is whole: training would start over in silence.
    """
    while True:
        candidate = group.main_decides(lambda: _newest(checkpoints, last_step))
        if candidate is None:
            return None
        step, commit, reason = candidate
        folder = checkpoints / step_name(step)
        if commit is not None and not reason:
            mine = commit.files[group.ranks.rank :: group.ranks.world_size]
            mine_faults = group.agree(lambda folder=folder, mine=mine: faults(folder, mine))
            found = [fault for theirs in group.gather(mine_faults) for fault in theirs]
            if not found:
                return commit
            reason = "; ".join(found)
        group.main_decides(lambda folder=folder, reason=reason: _reject(folder, reason, on_corrupt))


def _newest(checkpoints: Path, last_step: int | None) -> tuple[int, Commit | None, str] | None:
    steps = [step for step in committed_steps(checkpoints) if last_step is None or step <= last_step]
    corrupt = sorted(path.name for path in checkpoints.glob("step-*.corrupt*"))
    if not steps and last_step is None and corrupt:
        raise CheckpointError(
            f"no checkpoint in {checkpoints} is whole ({', '.join(corrupt)}); choose another output, or delete the run"
            " to start over"
        )
    if not steps:
        return None
    try:
        folder = checkpoints / step_name(steps[-1])
        commit = read_commit(folder)
        return steps[-1], commit, "; ".join(unlisted(folder, commit))
    except (FormatError, UnreadableError):
        raise  # nothing is wrong with it: another Tarmac reads it, or another process
    except CheckpointError as error:
        return steps[-1], None, str(error)


def _reject(folder: Path, reason: str, on_corrupt: OnCorrupt) -> None:
    set_aside(folder, reason)
    on_corrupt(folder.name, reason)
