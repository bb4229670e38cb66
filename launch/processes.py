"""Running a plan's command in a process group of its own, so that it and all it started end together."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from launch.plan import Plan
from pipeline.errors import RunError

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
POLL_SECONDS = 0.2
GRACE_SECONDS = 30
ASK_SECONDS = 2
LAST_SECONDS = 10
"""Ranks meet before they end: one that is left so long after another is stopped or stuck."""

_GUARD = """
read -r line
[ "$line" = ended ] && exit
kill -s TERM -- "-$0"
second=0
while [ "$second" -lt "$1" ] && kill -s 0 -- "-$0"; do sleep 1; second=$((second + 1)); done
kill -s KILL -- "-$0"
"""
"""Reads a pipe that only `tarmac launch` holds open: when that goes, even by SIGKILL, group $0 ends within $1 s."""


class JobProcess:
    """A command, its process group, and the ranks in it."""

    def __init__(self, plan: Plan, ask_elsewhere: Callable[[], None] | None = None) -> None:
        """Prepare to run a plan's command.

        Args:
            plan: The plan. Where it says that no rank is here and `ask_elsewhere` is not given, the command is the job
                itself.
            ask_elsewhere: Asks ranks on other machines to end; called again and again from the first signal on, as
                ranks that have not begun yet may miss it.
        """
        self._plan, self._ask_elsewhere = plan, ask_elsewhere
        self.asked: int | None = None
        """The first signal that came."""
        self._process: subprocess.Popen[bytes] | None = None
        self._ranks: list[psutil.Process] = []
        self._groups: set[int] = set()  # torchrun gives each rank its own
        self._waiting: list[int] = []
        self._interrupts = 0
        self._first_end: float | None = None
        self._next_ask = 0.0

    def run(self) -> int:
        """Run until the command and all it started have ended, forwarding signals; the exit status for a shell.

        Raises:
            RunError: The program cannot be started.
        """
        with self._forwarding():
            process = self._process = self._start()
            with self._guarded(process.pid):
                for signum in self._waiting:
                    self.forward(signum)
                while (code := process.poll()) is None:
                    self._find_ranks(process.pid)
                    self._end_ranks()
                    self._ask_again()
                    time.sleep(POLL_SECONDS)
                lost = any(_is_alive(rank) for rank in self._ranks)
                _end_groups({process.pid, *self._groups})
        if code == 0 and lost:
            return 1  # DeepSpeed's runner reports 0 when `launch`, between it and the ranks, was killed
        return 128 - code if code < 0 else code

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            environment = {**os.environ, **self._plan.environment}
            return subprocess.Popen(self._plan.command, env=environment, start_new_session=True)
        except OSError as error:
            raise RunError(f"{self._plan.command[0]} cannot be started ({error.strerror}); is it installed?") from error

    def _find_ranks(self, runner: int) -> None:
        if len(self._ranks) >= self._plan.ranks_here:
            return
        try:
            found = [psutil.Process(runner)]
            for _ in range(self._plan.rank_depth):
                found = [child for process in found for child in process.children()]
            ranks = [rank for rank in found if "LOCAL_RANK" in rank.environ()]
        except psutil.Error:
            return  # a part of the tree ended while it was read; the next look finds the rest
        if len(ranks) > len(self._ranks):  # fewer: the tree is falling apart, and what was found must still be ended
            self._ranks = ranks
            self._groups.update(group for rank in ranks if (group := _group_of(rank)) is not None)

    def _end_ranks(self) -> None:
        """Kill what is left of the ranks LAST_SECONDS after the first ended.

        DeepSpeed's `launch` sends TERM, which a stopped process does not get and the training loop only notes, and
        waits 30 s before it kills. The exit status stays that of the rank which ended first.
        """
        left = [rank for rank in self._ranks if _is_alive(rank)]
        if len(left) == len(self._ranks):
            return
        self._first_end = self._first_end or time.monotonic()
        if time.monotonic() - self._first_end > LAST_SECONDS:
            for rank in left:
                with suppress(psutil.NoSuchProcess):
                    rank.kill()

    def _ask_again(self) -> None:
        if self._ask_elsewhere is None or self.asked is None or time.monotonic() < self._next_ask:
            return
        self._next_ask = time.monotonic() + ASK_SECONDS
        with suppress(OSError):  # there is no run folder yet
            self._ask_elsewhere()

    def forward(self, signum: int) -> None:
        """Hand a signal to the ranks themselves.

        DeepSpeed's runner and `launch` die of USR1, turn TERM into a kill with exit status 1, and leave the ranks
        behind when they are killed; torchrun dies of USR1, and takes TERM for an order to kill. Sent to the ranks, a
        signal means what the training loop says it means, and their exit status comes back. Before there are ranks, or
        at the second Ctrl-C, the job is simply ended.
        """
        if self._process is None:
            self._waiting.append(signum)
            return
        self.asked = self.asked or signum
        self._interrupts += signum == signal.SIGINT
        self._find_ranks(self._process.pid)
        if self._interrupts > 1:  # over ssh, TERM makes the launcher end the ranks on the other machines, too
            _signal_group(self._process.pid, signal.SIGTERM if self._ask_elsewhere else signal.SIGKILL)
        elif self._ask_elsewhere:
            return  # the loop of `run` asks
        elif not self._plan.ranks_here:
            self._process.send_signal(signum)
        elif not self._ranks:
            _signal_group(self._process.pid, signal.SIGTERM)
        for rank in self._ranks:
            try:
                rank.send_signal(signum)
            except psutil.NoSuchProcess:
                continue

    @contextmanager
    def _forwarding(self) -> Iterator[None]:
        def handle(signum: int, frame: FrameType | None) -> None:
            self.forward(signum)

        before = {signum: signal.signal(signum, handle) for signum in FORWARDED}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    @contextmanager
    def _guarded(self, group: int) -> Iterator[None]:
        guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, str(group), str(GRACE_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            _signal_group(group, signal.SIGKILL)
            guard.communicate(b"ended\n")


def killing_signal(status: int) -> signal.Signals | None:
    """The signal that ended a rank, if one did: DeepSpeed's launcher then exits with its negative number."""
    return next((one for one in signal.Signals if 256 - one == status), None)


def _end_groups(groups: set[int]) -> None:
    """End what outlived the command: first politely, then not."""
    for group in groups:
        _signal_group(group, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while _members(groups) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS / 4)
    for group in groups:
        _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, signum: int) -> None:
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return  # nobody is left


def _members(groups: set[int]) -> list[psutil.Process]:
    """Who lives in the groups; a zombie that an idle init has not collected does not count."""
    return [process for process in psutil.process_iter() if _group_of(process) in groups and _is_alive(process)]


def _group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
