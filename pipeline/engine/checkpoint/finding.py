"""Finding the newest checkpoint that verifies, by all ranks together; bad ones are set aside."""

from collections.abc import Callable, Sequence
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
from pipeline.errors import CheckpointError, FormatError

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
    rejected: list[str] = []
    while True:
        candidate = group.main_decides(lambda: _newest(checkpoints, rejected, last_step))
        if candidate is None:
            return None
        step, commit, reason = candidate
        folder = checkpoints / step_name(step)
        if commit is not None and not reason:
            mine = commit.files[group.ranks.rank :: group.ranks.world_size]
            found = [fault for faults_ in group.gather(faults(folder, mine)) for fault in faults_]
            if not found:
                return commit
            reason = "; ".join(found)
        rejected.append(folder.name)
        group.main_decides(lambda folder=folder, reason=reason: _reject(folder, reason, on_corrupt))


def _newest(checkpoints: Path, rejected: Sequence[str], last_step: int | None) -> tuple[int, Commit | None, str] | None:
    steps = [step for step in committed_steps(checkpoints) if last_step is None or step <= last_step]
    if not steps and rejected:
        raise CheckpointError(
            f"no checkpoint in {checkpoints} is whole ({', '.join(rejected)} set aside as .corrupt);"
            " choose another output, or delete the run to start over"
        )
    if not steps:
        return None
    try:
        folder = checkpoints / step_name(steps[-1])
        commit = read_commit(folder)
        return steps[-1], commit, "; ".join(unlisted(folder, commit))
    except FormatError:
        raise  # nothing is wrong with it: another Tarmac reads it
    except CheckpointError as error:
        return steps[-1], None, str(error)


def _reject(folder: Path, reason: str, on_corrupt: OnCorrupt) -> None:
    set_aside(folder, reason)
    on_corrupt(folder.name, reason)
