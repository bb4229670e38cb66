"""Stopping in order: a signal to any rank, or `tarmac stop`, ends all of them after the same step, saved."""

from collections.abc import Callable

from pipeline.runtime.logs import get_logger
from pipeline.runtime.signals import EXIT_INTERRUPTED, EXIT_REQUEUE, StopRequest
from pipeline.runtime.stop_file import StopFile
from pipeline.train.loop import StepInfo, StopTraining
from pipeline.train.pulse import Pulse

_log = get_logger("stop")


class StopHook:
    """Learns after each step whether a rank was told to stop."""

    def __init__(self, pulse: Pulse, request: StopRequest, file: StopFile, save: Callable[[int], None]) -> None:
        """Set up; `save` is called with the step before the run stops."""
        self._request, self._file, self._save = request, file, save
        self._asked = pulse.ask_main(lambda info: file.is_there())
        self._answers = {
            status: pulse.ask(lambda info, status=status: request.status == status)
            for status in (EXIT_INTERRUPTED, EXIT_REQUEUE)
        }

    def __call__(self, info: StepInfo) -> None:
        """Stop if any rank was told to."""
        status = next((status for status, answer in self._answers.items() if answer), 0)
        reason = self._request.name or "another rank was told to stop"
        if self._asked:  # not to be started again
            status, reason = EXIT_INTERRUPTED, "tarmac stop"
            self._file.take()
        if status and not info.is_last:
            _log.warning("stopping after step %d: %s", info.step, reason)
            self._save(info.step)
            raise StopTraining(reason, status)
