"""Stopping in order: a signal to any rank ends all of them after the same step, saved."""

from collections.abc import Callable

from pipeline.engine.process_group import ProcessGroup
from pipeline.runtime.logs import get_logger
from pipeline.runtime.signals import StopRequest
from pipeline.train.loop import StepInfo, StopTraining

_log = get_logger("stop")


class StopHook:
    """Asks all ranks after each step whether one was told to stop."""

    def __init__(self, group: ProcessGroup, request: StopRequest, save: Callable[[int], None]) -> None:
        """Set up; `save` is called with the step before the run stops."""
        self._group, self._request, self._save = group, request, save

    def __call__(self, info: StepInfo) -> None:
        """Stop if any rank was told to."""
        status = self._group.max(self._request.status)
        if status and not info.is_last:
            reason = self._request.name or "another rank was told to stop"
            _log.warning("stopping after step %d: %s", info.step, reason)
            self._save(info.step)
            raise StopTraining(reason, status)
