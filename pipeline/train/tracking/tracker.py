"""The interface of a tracker, the composite of several, and the file."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pipeline.runtime.records import Records

Metrics = Mapping[str, float | None]


class Tracker(Protocol):
    """Takes rows of metrics, one or more per step."""

    def begin(self, step: int) -> None:
        """The run goes on behind a step, at a start or after a rollback: what was logged of later ones is void."""

    def log(self, step: int, metrics: Metrics) -> None:
        """Take the metrics of a step."""

    def finish(self, exit_code: int) -> None:
        """The run ends here; nothing follows."""


class Composite:
    """Several trackers as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        """Join them."""
        self._trackers = tuple(trackers)

    def begin(self, step: int) -> None:
        """Pass on to each."""
        for tracker in self._trackers:
            tracker.begin(step)

    def log(self, step: int, metrics: Metrics) -> None:
        """Pass on to each."""
        for tracker in self._trackers:
            tracker.log(step, metrics)

    def finish(self, exit_code: int) -> None:
        """Pass on to each."""
        for tracker in self._trackers:
            tracker.finish(exit_code)


class JsonLines:
    """`metrics.jsonl` in the run folder: one row a line, synced. Rows wait in memory while they cannot be written."""

    def __init__(self, folder: Path) -> None:
        """Append to the run's file."""
        self._rows = Records(metrics_path(folder), synced=True)

    def begin(self, step: int) -> None:
        """Rows that are void stay, and the journal tells which."""

    def log(self, step: int, metrics: Metrics) -> None:
        """Append a row."""
        self._rows.append({"step": step, "time": round(time.time(), 3), **metrics})

    def finish(self, exit_code: int) -> None:
        """Write what waits, or say what is lost."""
        self._rows.close()


def metrics_path(folder: Path) -> Path:
    """Where a run's rows are."""
    return folder / "metrics.jsonl"
