"""What ranks tell each other about a hang, in `RUN/stacks`: each its stacks, one of them a summary.

Each file is one line of JSON and then text. All exist from the job's start and are overwritten in place: a network
file system may hide a new name from other hosts for a minute, but opening a file always asks the server. Whether a file
is about this job is told by the job's name in its first line, never by times: clocks of hosts differ.
"""

import json
import os
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.errors import RunError
from pipeline.runtime.ranks import Ranks

_ALARM, _SUMMARY = "alarm.txt", "summary.txt"
_MAX_NAMED = 8

THREAD_NAME = "watchdog"
"""Of the threads that are left out of stacks."""


@dataclass(frozen=True)
class Answer:
    """What a rank told when it was asked where it is."""

    rank: int
    """Its number."""
    host: str
    """Where it runs; empty if it never said so."""
    doing: str = ""
    """What it was doing; empty if its watchdog told nothing."""
    seconds: float = 0.0
    """Seconds since it began to do so, by its own clock."""
    is_blocked: bool = False
    """Whether only C could write its stacks, as its Python did not run."""


class Stacks:
    """This rank's view of `RUN/stacks`."""

    def __init__(self, run: str | Path, ranks: Ranks, job: str) -> None:
        """Overwrite what this rank left there earlier.

        Args:
            run: The run folder, which all ranks share.
            ranks: This process's place in the job.
            job: Names this start of the job: the same on all ranks, never used before.

        Raises:
            RunError: The folder cannot be written.
        """
        self.folder = Path(run) / "stacks"
        self._ranks, self._job = ranks, job
        self._header = {"job": job, "rank": ranks.rank, "host": socket.gethostname(), "pid": os.getpid()}
        try:
            self.folder.mkdir(exist_ok=True)
            for name in (_ALARM, _SUMMARY):
                os.close(os.open(self.folder / name, os.O_WRONLY | os.O_CREAT, 0o644))
            self.descriptor = os.open(self._path(ranks.rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            _overwrite(self.descriptor, self._header, "")
        except OSError as error:
            raise RunError(
                f"{self.folder} cannot be written ({error.strerror}); mend that, or set faults.watchdog_seconds to 0"
            ) from error

    def close(self) -> None:
        """Close this rank's file."""
        os.close(self.descriptor)

    def raise_alarm(self) -> None:
        """Ask the other ranks where they are. Raises OSError."""
        self._overwrite(_ALARM, "")

    def is_alarm_raised(self) -> bool:
        """Whether a rank of this job asked."""
        return self._is_of_job(_ALARM)

    def tell(self, doing: str, seconds: float, text: str) -> None:
        """Say what this rank was doing, since how many seconds, and where its threads are. Raises OSError."""
        told = {"doing": doing, "seconds": round(seconds, 1), "time": round(time.time(), 3)}
        _overwrite(self.descriptor, self._header | told, text)

    def is_first(self) -> bool:
        """Whether no lower rank has told anything."""
        return not any(self._answer(rank).doing for rank in range(self._ranks.rank))

    def answers(self) -> list[Answer]:
        """What each rank of the job told, in their order."""
        return [self._answer(rank) for rank in range(self._ranks.world_size)]

    def summarize(self, text: str) -> None:
        """Write the summary, which the other ranks wait for. Raises OSError."""
        self._overwrite(_SUMMARY, text + "\n")

    def is_summarized(self) -> bool:
        """Whether a rank wrote the summary."""
        return self._is_of_job(_SUMMARY)

    def _path(self, rank: int) -> Path:
        return self.folder / f"rank-{rank:05d}.txt"

    def _answer(self, rank: int) -> Answer:
        header, text = _read(self._path(rank))
        if header.get("job") != self._job:
            return Answer(rank, "")
        doing = header.get("doing", "")
        return Answer(rank, header["host"], doing, header.get("seconds", 0.0), bool(text) and not doing)

    def _is_of_job(self, name: str) -> bool:
        return _read(self.folder / name)[0].get("job") == self._job

    def _overwrite(self, name: str, text: str) -> None:
        descriptor = os.open(self.folder / name, os.O_WRONLY)
        try:
            _overwrite(descriptor, {"job": self._job}, text)
        finally:
            os.close(descriptor)


def _overwrite(descriptor: int, header: dict[str, Any], text: str) -> None:
    content = (json.dumps(header) + "\n" + text).encode()
    os.ftruncate(descriptor, 0)
    while content:
        content = content[os.write(descriptor, content) :]


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """First line and rest of a file; empty if it is absent, or being written just now."""
    try:
        header, _, text = path.read_text(encoding="utf-8", errors="replace").partition("\n")
        return json.loads(header), text
    except (OSError, ValueError):
        return {}, ""


def all_stacks() -> str:
    """Where each Python thread of this process is, the main one first.

    Neither values, which may be secrets, nor source lines, for which files would be read that may be what hangs.
    """
    main = threading.main_thread().ident
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sorted(sys._current_frames().items(), key=lambda item: item[0] != main)
    named = [(names.get(ident, "?"), ident, frame) for ident, frame in frames]
    return "\n".join(_stack(*one) for one in named if one[0] != THREAD_NAME)


def _stack(name: str, ident: int, frame: FrameType) -> str:
    lines = []
    at: FrameType | None = frame
    while at is not None:
        lines.append(f'  File "{at.f_code.co_filename}", line {at.f_lineno}, in {at.f_code.co_qualname}\n')
        at = at.f_back
    return f"Thread {name} ({ident:#x}), most recent call last:\n" + "".join(reversed(lines))


def summary(answers: Iterable[Answer]) -> str:
    """One sentence on where ranks are: those in one place together, then who was elsewhere, then who told nothing."""
    answers = list(answers)
    places: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.doing:
            places[answer.doing].append(answer)
    num_told = sum(map(len, places.values()))
    parts = [
        _together(doing, there, len(answers))
        if 2 * len(there) > num_told and len(there) > 1
        else _elsewhere(doing, there)
        for doing, there in sorted(places.items(), key=lambda item: (-len(item[1]), -_longest(item[1])))
    ]
    blocked = [answer for answer in answers if answer.is_blocked]
    silent = [answer for answer in answers if not answer.doing and not answer.is_blocked]
    if blocked:
        parts.append(f"{_named(blocked)} could not run Python, a call in C held its lock")
    if silent:
        parts.append(f"{_named(silent)} did not answer: stopped, dead or cut off")
    return "hang: " + "; ".join(parts)


def _together(doing: str, there: list[Answer], num_ranks: int) -> str:
    return f"{len(there)} of {num_ranks} ranks were in {doing!r}"


def _elsewhere(doing: str, there: list[Answer]) -> str:
    return f"{_named(there)} in {doing!r} for {_longest(there):.0f} s"


def _longest(answers: list[Answer]) -> float:
    return max(answer.seconds for answer in answers)


def _named(answers: list[Answer]) -> str:
    names = [f"rank {one.rank}" + (f" on {one.host}" if one.host else "") for one in answers[:_MAX_NAMED]]
    others = len(answers) - len(names)
    return ", ".join(names) + (f" and {others} more" if others else "")
