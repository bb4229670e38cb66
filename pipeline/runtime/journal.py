"""The journal of a run: what happened to it, one JSON line each, written by rank 0 and synced."""

import time
from pathlib import Path
from threading import Lock
from typing import Any

from pipeline.runtime.files import append_json_line, read_json_lines
from pipeline.runtime.logs import get_logger

_log = get_logger("journal")

_ONE_AT_A_TIME = Lock()
"""An append that fails cuts the file back to where it began, and several threads append."""


class Journal:
    """`journal.jsonl` in a run folder: start, resume, phase, save, save_failed, upload,
    upload_failed, spike, skipped, rollback, corrupt, hang, end.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open the journal of a run folder, which need not have one yet."""
        self.path = Path(folder) / "journal.jsonl"

    def write(self, event: str, **details: Any) -> None:
        """Append one event with the time in seconds since 1970. Raises OSError: decisions must be on disk."""
        with _ONE_AT_A_TIME:
            append_json_line(self.path, {"event": event, "time": round(time.time(), 3), **details})

    def note(self, event: str, **details: Any) -> None:
        """Append an event that decides nothing: a line that a full disk does not take is no reason to end a run."""
        try:
            self.write(event, **details)
        except OSError as error:
            _log.warning("journal: %s was not noted (%s)", event, error)

    def read(self) -> list[dict[str, Any]]:
        """All events, oldest first."""
        return read_json_lines(self.path)
