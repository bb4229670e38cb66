"""Records of a run: files of lines that never end it. What a disk does not take waits in memory until it does."""

import os
from collections import deque
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.runtime.files import Lines
from pipeline.runtime.logs import get_logger

_log = get_logger("records")

MAX_WAITING = 100_000
"""Records of a file that are kept in memory; of more than these the oldest are dropped."""
_PORTION = 256
"""Records that are written at once after a fault."""


class Records:
    """A JSON-lines file of what is good to know and not worth stopping for: metrics, the ledger.

    A record that cannot be written (no room, no quota, a file system that became read-only) waits; all that wait are
    tried again with the next one, in their order. Decisions go to the journal, which raises.
    """

    def __init__(self, path: Path, synced: bool, max_waiting: int = MAX_WAITING) -> None:
        """Name the file; it and its folder are made with the first record.

        Args:
            path: The file.
            synced: Whether to wait for the disk with each record; if not, a power cut may take the last ones. A kill
                takes none in either case.
            max_waiting: Records that are kept in memory.
        """
        self._path, self._synced, self._max_waiting = path, synced, max_waiting
        self._waiting: deque[Any] = deque()
        self._dropped = 0
        self._fails = False
        self._lines: Lines | None = None

    def append(self, record: Any) -> None:
        """Append a record, now or as soon as it can be written."""
        self._waiting.append(record)
        if len(self._waiting) > self._max_waiting:
            self._waiting.popleft()
            self._dropped += 1
        self._write()

    def close(self) -> None:
        """Try a last time to write what waits, and say what is lost."""
        if self._waiting:
            self._write()
        self._let_go()
        if self._waiting:
            _log.warning("%s lacks %d records at its end that could not be written", self._path,
                         len(self._waiting) + self._dropped)  # fmt: skip

    def _write(self) -> None:
        try:
            self._write_waiting()
        except OSError as error:
            self._let_go()
            self._warn(error)
            return
        if self._fails:
            _log.warning("%s is written again; %d records are lost", self._path, self._dropped)
            self._fails, self._dropped = False, 0

    def _write_waiting(self) -> None:
        if self._lines is None:
            self._path.parent.mkdir(exist_ok=True)
            self._lines = Lines(self._path)
        while self._waiting:
            portion = list(islice(self._waiting, _PORTION))
            self._lines.append(portion, self._synced)
            for _ in portion:
                self._waiting.popleft()

    def _let_go(self) -> None:
        """Close the file: what is opened anew later has no part of a line at its end, and follows a remount."""
        if self._lines is not None:
            with suppress(OSError):
                self._lines.close()
            self._lines = None

    def _warn(self, error: OSError) -> None:
        if not self._fails:
            _log.warning("%s cannot be written (%s); records wait in memory until it can, up to %d", self._path,
                         error.strerror or os.strerror(error.errno or 0), self._max_waiting)  # fmt: skip
        self._fails = True
