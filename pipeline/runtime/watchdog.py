"""The watchdog: a rank that makes no progress ends the job, after all ranks told where they are.

Why it works as it does, and what it cannot see: docs/design/watchdog.md.
"""

import faulthandler
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from pipeline.runtime.journal import Journal
from pipeline.runtime.logs import get_logger
from pipeline.runtime.ranks import Ranks
from pipeline.runtime.stacks import THREAD_NAME, Stacks, all_stacks, summary

EXIT_HANG = 86
"""Exit status after a hang: no progress for longer than the config allows."""

_ABORT_SECONDS = 5.0
_FILE_SECONDS = 5.0
_LOG_SECONDS = 2.0
_ALARM_CLOCK_SECONDS = 60.0
"""Seconds that the ending may take, and that a held interpreter lock is borne beyond twice the limit."""

_log = get_logger("watchdog")


class Watchdog:
    """Watches one rank from a thread beside it. A context manager; entered on every rank, after the run folder is made.

    If no beat comes for the given time, every rank writes its stacks into `RUN/stacks`, one rank writes a summary, and
    all exit with EXIT_HANG, at most 25 s later.
    """

    def __init__(
        self,
        run: str | Path,
        ranks: Ranks,
        seconds: float,
        job: str,
        abort: Callable[[], None],
        answer_seconds: float = 5.0,
    ) -> None:
        """Make this rank's file in the run folder.

        Args:
            run: The run folder, which all ranks share.
            ranks: This process's place in the job.
            seconds: How long a rank may be without a beat; 0 watches nothing.
            job: Names this start of the job: the same on all ranks, never used before.
            abort: Frees what other processes may wait for, such as the process group; it gets 5 s.
            answer_seconds: How long others are given to write their stacks.

        Raises:
            RunError: The run folder cannot be written.
        """
        self._doing, self._beats = "starting", 0
        self._run, self._ranks, self._seconds = run, ranks, seconds
        self._abort, self._answer_seconds = abort, answer_seconds
        self._tick = min(1.0, seconds / 10)
        self._quiet = 0.0
        self._closing, self._called = threading.Event(), threading.Event()
        self._ending = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._stacks = Stacks(run, ranks, job) if seconds else None

    def beat(self, doing: str) -> None:
        """Say that there was progress, and what begins now. Called by the main thread, it costs 0.1 µs."""
        self._doing = doing
        self._beats += 1

    def __enter__(self) -> "Watchdog":
        """Start to watch."""
        if self._stacks is not None:
            self._arm(self._stacks)
            for target in (self._watch, self._listen):
                thread = threading.Thread(target=target, args=(self._stacks,), name=THREAD_NAME, daemon=True)
                thread.start()
                self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching. Does not return after a hang, also if this rank only got the error that the hang of another
        ended in: the exit status is to be the same on all.
        """
        if self._stacks is None:
            return
        is_told_to_go = error is not None and not isinstance(error, Exception)
        is_of_hang = self._ending.locked() or (error is not None and self._stacks.is_alarm_raised())
        if is_of_hang and not is_told_to_go:
            self._end(self._stacks)
        self._closing.set()
        for thread in self._threads:
            thread.join(2 * self._tick)
        _disarm()
        self._stacks.close()

    def _watch(self, stacks: Stacks) -> None:
        """Count the time since the last beat, but not that in which the process was stopped and this thread with it."""
        seen, before = self._beats, time.monotonic()
        while not self._closing.wait(self._tick):
            now = time.monotonic()
            if seen == self._beats:
                self._quiet += min(now - before, 2 * self._tick)
            else:
                seen, self._quiet = self._beats, 0.0
            before = now
            self._arm(stacks)
            if self._quiet >= self._seconds or self._called.is_set():
                self._end(stacks)

    def _listen(self, stacks: Stacks) -> None:
        """Answer the alarm of a rank that was quiet earlier. A thread of its own: looking at files may hang too."""
        while not self._closing.wait(self._tick):
            if self._quiet >= self._seconds / 2 and stacks.is_alarm_raised():
                self._called.set()

    def _arm(self, stacks: Stacks) -> None:
        """What works without this thread: C writes stacks if the interpreter's lock is held, the kernel ends it all."""
        faulthandler.dump_traceback_later(self._seconds + 2 * self._tick, file=stacks.descriptor)
        signal.setitimer(signal.ITIMER_REAL, 2 * self._seconds + _ALARM_CLOCK_SECONDS)

    def _end(self, stacks: Stacks) -> NoReturn:
        """Tell, abort, exit. Whatever hangs, also the file system or standard error, hangs in a thread left behind."""
        self._ending.acquire()  # for ever: who comes second waits for the end of the process
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, _ALARM_CLOCK_SECONDS)
        _bounded(self._say_where, _LOG_SECONDS)
        text = all_stacks()
        if not _bounded(lambda: self._tell(stacks, text), _FILE_SECONDS):
            _bounded(lambda: _log.error("stacks of rank %d, which cannot be written:\n%s", self._ranks.rank, text),
                     _LOG_SECONDS)  # fmt: skip
        time.sleep(self._answer_seconds)
        _bounded(lambda: self._summarize(stacks), self._answer_seconds)
        _bounded(self._abort, _ABORT_SECONDS)
        os._exit(EXIT_HANG)

    def _say_where(self) -> None:
        where = f"rank {self._ranks.rank} on {socket.gethostname()}"
        _log.error("a rank makes no progress; %s was in %r for %.0f s", where, self._doing, self._quiet)

    def _tell(self, stacks: Stacks, text: str) -> None:
        stacks.raise_alarm()
        stacks.tell(self._doing, self._quiet, text)

    def _summarize(self, stacks: Stacks) -> None:
        """The lowest rank that told something sums up; the others stay till then: the first to exit ends the job."""
        if stacks.is_first():
            text = summary(stacks.answers())
            _bounded(lambda: Journal(self._run).note("hang", reason=text), _LOG_SECONDS)
            _log.error("%s; stacks are in %s", text, stacks.folder)
            stacks.summarize(text)
            return
        while not stacks.is_summarized():
            time.sleep(self._tick)


def _bounded(act: Callable[[], None], seconds: float) -> bool:
    """Whether an act ended well within so many seconds; a thread is left behind if not."""
    done = threading.Event()

    def run() -> None:
        act()
        done.set()

    thread = threading.Thread(target=run, name=THREAD_NAME, daemon=True)
    thread.start()
    thread.join(seconds)
    return done.is_set()


def _disarm() -> None:
    faulthandler.cancel_dump_traceback_later()
    signal.setitimer(signal.ITIMER_REAL, 0)
