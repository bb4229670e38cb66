"""Copies of checkpoints at a URL: which there are, and bringing one back into a run folder."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.corpus.remote.urls import shown
from pipeline.engine.checkpoint.fetching import copied, fetch_checkpoint
from pipeline.errors import RunError
from pipeline.runtime.columns import print_columns
from pipeline.runtime.lock import RunLock
from pipeline.stages.seal import seal_fault


def list_copies(url: str) -> None:
    """Print the checkpoints that have a whole copy. Raises CheckpointError or ConfigError if the URL cannot be read."""
    rows = [
        (
            f"{one.step:,}",
            str(one.branch),
            f"{one.bytes / 1e6:,.1f}",
            str(one.world_size),
            _when(one.made_by.get("time")),
        )
        for one in copied(url)
    ]
    print_columns(Console(), shown(url), ("step", "branch", "MB", "ranks", "written"), rows)


def fetch_copy(url: str, run: str | Path, step: int | None) -> None:
    """Bring a copy into a run folder, which is made if missing, and say where it is.

    Raises:
        RunError: A job uses the run folder, or it cannot be made.
        CheckpointError: There is no such copy, or it is damaged.
    """
    folder = Path(run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--into {folder} cannot be made: {error.strerror}; choose another folder") from error
    with RunLock(folder):
        is_run = (folder / "config.yaml").exists()
        fetched = fetch_checkpoint(
            url, folder / "checkpoints", step, lambda commit: not is_run or seal_fault(folder, commit) is None
        )
        print(f"fetched {fetched}; the run's command goes on from it")


def _when(made_by: Mapping[str, Any]) -> str:
    seconds = made_by.get("time")
    return "–" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
