"""How a run was launched, kept in its folder, so that it can be launched again from there alone."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.runtime.files import write_json
from pipeline.runtime.lock import holder

_NAME = "launch.json"


def keep(run: str | Path, words: Sequence[str]) -> None:
    """Keep what `tarmac launch` was given and where, unless the run trains: then the command will be refused.

    Raises:
        RunError: The folder cannot be written.
    """
    if holder(run) is not None:
        return
    try:
        Path(run).mkdir(parents=True, exist_ok=True)
        logs = [str(path) for path in kept_logs(run)]
        write_json(Path(run) / _NAME, {"folder": os.getcwd(), "words": list(words), "logs": logs})
    except OSError as error:
        raise RunError(f"output {run} cannot be written: {error.strerror}; choose another folder") from error


def kept(run: str | Path) -> tuple[Path, list[str]]:
    """The folder in which a run was launched last, and the words behind `tarmac launch`.

    Raises:
        RunError: It trains now, or was never launched so.
    """
    if not Path(run).exists():
        raise RunError(f"run {run} does not exist; give the folder of a run that was launched")
    if (owner := holder(run)) is not None:
        raise RunError(f"run {run} trains now: {owner}; stop it first with tarmac stop, or let it")
    try:
        record: Any = json.loads((Path(run) / _NAME).read_text())
        return Path(record["folder"]), [str(word) for word in record["words"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"run {run} has no record of a tarmac launch; give the command again that started it") from error


def keep_log(run: str | Path, stem: str) -> None:
    """Keep what the names of a job's logs begin with, for a run whose launch was kept."""
    path = Path(run) / _NAME
    if path.is_file():
        record = json.loads(path.read_text())
        write_json(path, {**record, "logs": [*record.get("logs", []), os.path.abspath(stem)]})


def kept_logs(run: str | Path) -> list[Path]:
    """What the names of the logs of a run's jobs begin with, in the order in which they were submitted."""
    try:
        record: Any = json.loads((Path(run) / _NAME).read_text())
        return [Path(one) for one in record.get("logs", [])]
    except (OSError, ValueError):
        return []
