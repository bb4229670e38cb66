"""Saving: when it is time, at the end, and when the run is asked to stop; written beside training where possible."""

import time
from collections.abc import Callable, Collection
from pathlib import Path

from pipeline.config.checkpoints import Checkpoints
from pipeline.engine.checkpoint.retention import delete_old
from pipeline.engine.checkpoint.saving import Label, Saved, Saver
from pipeline.errors import CheckpointError
from pipeline.runtime.files import read_json_lines
from pipeline.runtime.journal import Journal
from pipeline.runtime.logs import get_logger
from pipeline.train.loop import StepInfo
from pipeline.train.pulse import Pulse

_log = get_logger("checkpoints")


class CheckpointHook:
    """Begins checkpoints, sees to it that they are committed, and tells the journal."""

    def __init__(
        self,
        saver: Saver,
        run: Path,
        settings: Checkpoints,
        label: Callable[[int], Label],
        tokens_at: Callable[[int], int],
        pulse: Pulse,
        is_main: bool,
        last_saved: int,
    ) -> None:
        """Set up.

        Args:
            saver: Writes them.
            run: The run folder.
            settings: When they are written, and what a failure does to the run.
            label: What a checkpoint after a number of steps is of; all ranks call it.
            tokens_at: Tokens seen before a step.
            pulse: By which ranks tell that they are done writing, and rank 0 that its clock says it is time.
            is_main: Whether this rank writes the journal.
            last_saved: Step of the checkpoint that the run goes on from, 0 at its beginning.
        """
        self._saver, self._settings, self._label, self._tokens_at = saver, settings, label, tokens_at
        self._journal, self._is_main = Journal(run), is_main
        self._last_time = time.monotonic()
        self._busy = pulse.ask(lambda info: saver.is_busy)
        self._clock = pulse.ask_main(lambda info: self._minutes_are_over())
        self.last_saved = last_saved
        """Step of the newest checkpoint."""
        self._last_begun = -1
        self._is_postponed = False

    def __call__(self, info: StepInfo) -> None:
        """Go on with a save that is under way; begin one when it is time, but not while updates are skipped.

        Weights that give no finite loss must not take the place of those that do.
        """
        if self._saver.is_pending and not self._busy:
            self._guarded(self._saver.advance)
        is_due = self._is_due(info.step) or self._is_postponed
        self._is_postponed = is_due and info.skipped
        if info.is_last:
            self.save(info.step, must=True)
        elif is_due and not info.skipped:
            self.save(info.step, wait=False)

    def save(self, step: int, wait: bool = True, must: bool = False) -> None:
        """Save after a step, unless that was done.

        Args:
            step: Updates made.
            wait: Return when it is committed, or has failed.
            must: Raise CheckpointError if it fails, whatever the settings say: nothing follows that could.
        """
        if step != self._last_begun:
            self._guarded(self._saver.finish)
            self._last_begun, self._last_time = step, time.monotonic()
            self._guarded(lambda: self._saver.begin(self._label(step)), must)
        if wait:
            self._guarded(self._saver.finish, must)

    def settle(self) -> None:
        """Wait for a save that is under way. Raises CheckpointError as the settings say."""
        self._guarded(self._saver.finish)

    def _is_due(self, step: int) -> bool:
        settings = self._settings
        by_steps = settings.steps is not None and step % settings.steps == 0
        tokens = settings.every_tokens
        by_tokens = tokens is not None and self._tokens_at(step) // tokens > self._tokens_at(step - 1) // tokens
        return by_steps or by_tokens or bool(self._clock)

    def _minutes_are_over(self) -> bool:
        minutes = self._settings.every_minutes
        return minutes is not None and time.monotonic() - self._last_time >= 60 * minutes

    def _guarded(self, act: Callable[[], Saved | None], must: bool = False) -> None:
        try:
            saved = act()
        except CheckpointError as error:
            if must or self._settings.on_error == "stop":
                raise
            self._tell("save_failed", reason=str(error))
            if self._is_main:
                _log.error("training goes on without it: %s", error)
            return
        if saved is not None:
            self._tell_saved(saved)

    def _tell_saved(self, saved: Saved) -> None:
        step, size = saved.commit.step, saved.commit.bytes
        seconds, stall = round(saved.seconds, 3), round(self._saver.stall_seconds, 3)
        self.last_saved = step
        self._tell("save", step=step, branch=saved.commit.branch, bytes=size, seconds=seconds, stall_seconds=stall)
        if self._is_main:
            _log.info("step %d  saved %.1f MB in %.2f s, waited for %.2f s", step, size / 1e6, seconds, stall)

    def _tell(self, event: str, **details: object) -> None:
        if self._is_main:
            self._journal.note(event, **details)


def tidy(run: Path, settings: Checkpoints, keep: Collection[int] = ()) -> None:
    """Delete old checkpoints but those to keep; one that cannot be deleted is no reason to end a healthy run."""
    try:
        measured = {}
        for row in read_json_lines(run / "metrics.jsonl") if settings.keep_best else ():
            if isinstance(value := row.get(settings.best_metric), int | float):
                measured[row["step"]] = value
        delete_old(run / "checkpoints", settings, measured, keep)
    except OSError as error:
        _log.warning("an old checkpoint was not deleted: %s", error)
