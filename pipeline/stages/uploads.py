"""Copies of a run's checkpoints in an object store: who makes them, and how long a run's end waits for the last one."""

from collections.abc import Mapping
from math import inf
from pathlib import Path

from pipeline.config.run import RunConfig
from pipeline.engine.checkpoint.upload import Uploader
from pipeline.runtime.journal import Journal
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.stages.seal import STATE_KEY

_MOST_SECONDS = 600.0


def uploader(config: RunConfig, journal: Journal, seal: Mapping[str, str]) -> Uploader | None:
    """Rank 0's, if the config wants copies. Raises MissingDependencyError or ConfigError."""
    url = config.checkpoints.upload
    if url is None or not ranks_from_environment().is_main:
        return None
    folder = Path(config.output) / "checkpoints"
    return Uploader(folder, url, journal.note, lambda found: found.state.get(STATE_KEY) == seal)


def upload_seconds(config: RunConfig) -> float:
    """How long the end of a run waits for its last copy: other ranks wait with it, under a time-out and a watchdog."""
    return min(_MOST_SECONDS, config.engine.timeout_seconds / 2, (config.faults.watchdog_seconds or inf) / 2)
