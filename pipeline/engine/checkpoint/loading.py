"""Loading: the newest checkpoint that verifies, chosen by all ranks together; bad ones are set aside."""

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
from pipeline.engine.checkpoint.saving import STATE_FOLDER
from pipeline.engine.checkpoint.storage import VerifiedStorage
from pipeline.engine.engine import Engine
from pipeline.engine.process_group import ProcessGroup
from pipeline.errors import CheckpointError

OnCorrupt = Callable[[str, str], None]
"""Told the folder name and the reason, on rank 0."""


def newest_good(group: ProcessGroup, checkpoints: Path, on_corrupt: OnCorrupt) -> Commit | None:
    """The commit of the newest checkpoint that verifies; None if there never was one. The ranks share the work.

    Raises:
        CheckpointError: There were checkpoints, and none is whole: training would start over in silence.
    """
    rejected: list[str] = []
    while True:
        candidate = group.main_decides(lambda: _newest(checkpoints, rejected))
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


def _newest(checkpoints: Path, rejected: Sequence[str]) -> tuple[int, Commit | None, str] | None:
    steps = committed_steps(checkpoints)
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
    except CheckpointError as error:
        return steps[-1], None, str(error)


def _reject(folder: Path, reason: str, on_corrupt: OnCorrupt) -> None:
    set_aside(folder, reason)
    on_corrupt(folder.name, reason)


def load_checkpoint(engine: Engine, checkpoints: Path, commit: Commit, exclude_frozen: bool) -> None:
    """Put a verified checkpoint's weights and optimizer state into the engine.

    Raises:
        CheckpointError: It was written by another number of ranks, or a file changed since it was verified.
    """
    world_size = engine.group.ranks.world_size
    if commit.world_size != world_size:
        raise CheckpointError(
            f"{step_name(commit.step)} was written by {commit.world_size} ranks and this job has {world_size};"
            f" resume with {commit.world_size} ranks"
        )
    folder = checkpoints / step_name(commit.step)
    storage = VerifiedStorage()
    storage.read_from(folder, commit)
    engine.deepspeed.checkpoint_engine = storage
    loaded, _ = engine.deepspeed.load_checkpoint(str(folder), tag=STATE_FOLDER, load_module_strict=not exclude_frozen)
    if loaded is None:
        raise CheckpointError(f"{folder} holds no state that DeepSpeed can load; delete it to resume from an older one")
