"""Being asked to stop: by the scheduler, by `tarmac launch`, or by Ctrl-C."""

import signal
import time
from types import FrameType

EXIT_REQUEUE = 85
"""Exit status that asks the scheduler to start the job again."""
EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C."""

_STATUS = {signal.SIGTERM: EXIT_REQUEUE, signal.SIGUSR1: EXIT_REQUEUE, signal.SIGINT: EXIT_INTERRUPTED}


_SAME_ORDER_SECONDS = 5.0
"""Schedulers and launchers hand the same order on by several ways: what follows so soon is not a second one."""


class StopRequest:
    """Remembers the first signal; a second one, a while later, ends the process at once."""

    def __init__(self) -> None:
        """Take over SIGTERM, SIGUSR1 and SIGINT. Only the main thread of a process may do this."""
        self.status = 0
        """Exit status asked for; 0 as long as nothing came."""
        self.name = ""
        """The signal's name."""
        self._received_at = 0.0
        self._previous = {number: signal.signal(number, self._receive) for number in _STATUS}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.status:
            if time.monotonic() - self._received_at > _SAME_ORDER_SECONDS:
                raise SystemExit(128 + number)
            return
        self._received_at = time.monotonic()
        self.status, self.name = _STATUS[signal.Signals(number)], signal.Signals(number).name

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
