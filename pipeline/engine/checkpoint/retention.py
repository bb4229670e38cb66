"""Which checkpoints are kept, and deleting the others: never the only good one."""

import math
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pipeline.config.checkpoints import Checkpoints
from pipeline.engine.checkpoint.commit import committed_steps, read_commit, step_name
from pipeline.errors import CheckpointError


def delete_old(
    checkpoints: Path, settings: Checkpoints, measured: Mapping[int, float], keep: Collection[int] = ()
) -> list[int]:
    """Delete what the settings do not keep, and return the steps deleted. Raises OSError.

    Steps of `keep` stay as well: somebody reads them.

    Nothing is deleted as long as the newest checkpoint is not all there: an older one may be the only good one.
    """
    steps = committed_steps(checkpoints)
    if not steps or not _is_all_there(checkpoints / step_name(steps[-1])):
        return []
    old = sorted(set(steps) - kept(steps, settings, measured) - set(keep))
    for step in old:
        folder = checkpoints / step_name(step)
        doomed = folder.with_name(f"{folder.name}.old.partial")  # a kill in the middle must not leave half a checkpoint
        os.rename(folder, doomed)
        shutil.rmtree(doomed)
    return old


def kept(steps: Sequence[int], settings: Checkpoints, measured: Mapping[int, float]) -> set[int]:
    """The steps to keep.

    Args:
        steps: Steps that have a checkpoint, ascending.
        settings: How many of which are kept.
        measured: `best_metric` by the step after which it was measured; a checkpoint's is the last one up to its step.
    """
    newest = set(steps[-settings.keep_last :])
    regular = {step for step in steps if settings.keep_every_steps and step % settings.keep_every_steps == 0}
    finite = {at: value for at, value in measured.items() if math.isfinite(value)}
    values = {step: value for step in steps if (value := _last(finite, step)) is not None}
    best = sorted(values, key=lambda step: (values[step], -step))[: settings.keep_best]
    return newest | regular | set(best)


def _last(measured: Mapping[int, float], step: int) -> float | None:
    before = [at for at in measured if at <= step]
    return measured[max(before)] if before else None


def _is_all_there(folder: Path) -> bool:
    try:
        return all((folder / file.name).stat().st_size == file.bytes for file in read_commit(folder).files)
    except (CheckpointError, OSError):
        return False
