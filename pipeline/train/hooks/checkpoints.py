"""Saving every so many steps, at the end, and when the run is asked to stop."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config.run import Checkpoints
from pipeline.engine.checkpoint.commit import delete_old
from pipeline.engine.checkpoint.saving import save_checkpoint
from pipeline.engine.engine import Engine
from pipeline.runtime.journal import Journal
from pipeline.runtime.logs import get_logger
from pipeline.train.loop import StepInfo

_log = get_logger("checkpoints")


class CheckpointHook:
    """Commits checkpoints and deletes old ones."""

    def __init__(
        self,
        engine: Engine,
        run: Path,
        settings: Checkpoints,
        state: Callable[[int], dict[str, Any]],
        exclude_frozen: bool,
    ) -> None:
        """Set up.

        Args:
            engine: What is saved.
            run: The run folder.
            settings: When, and how many are kept.
            state: The training state besides tensors after a number of steps, JSON values.
            exclude_frozen: Leave out weights that are not trained.
        """
        self._engine, self._run, self._settings, self._state = engine, run, settings, state
        self._exclude_frozen = exclude_frozen
        self.last_saved = -1
        """Step of the newest checkpoint of this session."""

    def __call__(self, info: StepInfo) -> None:
        """Save when it is time."""
        if info.step % self._settings.every_steps == 0 or info.is_last:
            self.save(info.step)

    def save(self, step: int) -> None:
        """Save after a step, unless that was done."""
        if step == self.last_saved:
            return
        start = time.perf_counter()
        checkpoints = self._run / "checkpoints"
        commit = save_checkpoint(self._engine, checkpoints, step, self._state(step), self._exclude_frozen)
        self.last_saved = step
        if self._engine.group.ranks.is_main:
            seconds = round(time.perf_counter() - start, 3)
            Journal(self._run).write("save", step=step, bytes=commit.bytes, seconds=seconds)
            _log.info("step %d  saved %.1f MB in %.2f s", step, commit.bytes / 1e6, seconds)
            self._delete_old(checkpoints)

    def _delete_old(self, checkpoints: Path) -> None:
        """An old checkpoint that cannot be deleted is no reason to end a healthy run."""
        try:
            delete_old(checkpoints, self._settings.keep_last)
        except OSError as error:
            _log.warning("an old checkpoint was not deleted: %s", error)
