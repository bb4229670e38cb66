"""Saving: all ranks write into one `.partial` folder, agree, and rank 0 commits."""

import os
import shutil
from pathlib import Path
from typing import Any

from pipeline.engine.checkpoint.commit import Commit, begin, commit
from pipeline.engine.checkpoint.storage import VerifiedStorage
from pipeline.engine.engine import Engine
from pipeline.engine.process_group import ProcessGroup
from pipeline.errors import CheckpointError

STATE_FOLDER = "state"
"""Folder of DeepSpeed's files inside a checkpoint (its "tag")."""


def save_checkpoint(
    engine: Engine, checkpoints: Path, step: int, state: dict[str, Any], exclude_frozen: bool
) -> Commit:
    """Write and commit a checkpoint; every rank calls it after the same step.

    Args:
        engine: What is saved.
        checkpoints: The run's `checkpoints` folder, shared by all ranks.
        step: Updates made.
        state: The training state besides tensors, JSON values.
        exclude_frozen: Leave out weights that are not trained.

    Raises:
        CheckpointError: A rank could not write; on all ranks, with the partial folder removed.
    """
    group = engine.group
    partial = Path(group.main_decides(lambda: _begin(checkpoints, step)))
    storage = VerifiedStorage()
    storage.write_to(partial)
    engine.deepspeed.checkpoint_engine = storage
    engine.deepspeed.save_checkpoint(
        str(partial), tag=STATE_FOLDER, save_latest=False, exclude_frozen_parameters=exclude_frozen
    )
    reports = group.gather((storage.error, storage.written))
    errors = [f"rank {rank}: {error}" for rank, (error, _) in enumerate(reports) if error is not None]
    files = [file for _, written in reports for file in written]
    record = Commit(step, group.ranks.world_size, state, tuple(sorted(files, key=lambda file: file.name)))
    group.main_decides(lambda: _commit_or_remove(partial, record, errors))
    return record


def _begin(checkpoints: Path, step: int) -> str:
    try:
        return str(begin(checkpoints, step))
    except OSError as error:
        raise CheckpointError(f"{checkpoints}: {error.strerror}; free space or mend its rights") from error


def _commit_or_remove(partial: Path, record: Commit, errors: list[str]) -> None:
    try:
        if errors:
            raise CheckpointError(f"checkpoint of step {record.step} was not written ({'; '.join(errors)})")
        commit(partial, record)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(f"checkpoint of step {record.step} was not committed: {error.strerror}") from error
    except CheckpointError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def prove_shared_folder(group: ProcessGroup, folder: Path) -> None:
    """Check that every rank sees the run folder that rank 0 sees. Raises CheckpointError on all ranks."""
    token = group.main_decides(lambda: _write_token(folder))
    seen = group.gather((folder / ".shared").is_file() and (folder / ".shared").read_text() == token)
    blind = [rank for rank, sees in enumerate(seen) if not sees]
    group.barrier()
    if group.ranks.is_main:
        (folder / ".shared").unlink(missing_ok=True)
    if blind:
        raise CheckpointError(
            f"output {folder} is another folder on ranks {', '.join(map(str, blind))}; put it on a shared file system"
        )


def _write_token(folder: Path) -> str:
    token = os.urandom(16).hex()
    (folder / ".shared").write_text(token)
    return token
