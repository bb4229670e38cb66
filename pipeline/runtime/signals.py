"""Being asked to stop: by the scheduler, by `tarmac launch`, or by Ctrl-C."""

import os
import signal
import time
from threading import Thread

EXIT_REQUEUE = 85
"""Exit status that asks the scheduler to start the job again."""
EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C."""

_STATUS = {signal.SIGTERM: EXIT_REQUEUE, signal.SIGUSR1: EXIT_REQUEUE, signal.SIGINT: EXIT_INTERRUPTED}


_SAME_ORDER_SECONDS = 5.0
"""Schedulers and launchers hand the same order on by several ways: what follows so soon is not a second one."""


class StopRequest:
    """Remembers the first signal; a second one, a while later, ends the process at once.

    Python runs signal handlers between two instructions of the main thread, which may wait in a collective for a rank
    that never comes. So signals are read by a thread, from the pipe that the interpreter writes them to at once.
    """

    def __init__(self) -> None:
        """Take over SIGTERM, SIGUSR1 and SIGINT. Only the main thread of a process may do this."""
        self.status = 0
        """Exit status asked for; 0 as long as nothing came."""
        self.name = ""
        """The signal's name."""
        self._received_at = 0.0
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._previous_descriptor = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, lambda *arguments: None) for number in _STATUS}
        Thread(target=self._read, args=(self._reader,), name="signals", daemon=True).start()

    def _read(self, reader: int) -> None:
        with open(reader, "rb", buffering=0) as pipe:
            while number := pipe.read(1):
                if (received := signal.Signals(number[0])) in _STATUS:
                    self._receive(received)

    def _receive(self, received: signal.Signals) -> None:
        if self.status:
            if time.monotonic() - self._received_at > _SAME_ORDER_SECONDS:
                os._exit(128 + received)
            return
        self._received_at = time.monotonic()
        self.status, self.name = _STATUS[received], received.name

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_descriptor)
        os.close(self._writer)  # ends the thread
