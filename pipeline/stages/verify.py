"""Checking every checksum of a run or a corpus. Nothing is changed or set aside."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table

from pipeline.corpus.corpus import Corpus, shard_fault
from pipeline.corpus.manifest import MANIFEST_NAME
from pipeline.engine.checkpoint.commit import committed_steps, faults, read_commit, step_name, unlisted
from pipeline.errors import CheckpointError, RunError

_THREADS = 4

Item = TypeVar("Item")


def verify(folder: str | Path) -> int:
    """Check a run's checkpoints or a corpus's shards and print a table; returns 1 if something is damaged.

    Raises:
        RunError: The folder is neither.
    """
    path = Path(folder)
    if (path / MANIFEST_NAME).is_file():
        results = _corpus_faults(path)
    elif (path / "checkpoints").is_dir():
        results = _checkpoint_faults(path / "checkpoints")
    else:
        raise RunError(f"{folder} is neither a corpus ({MANIFEST_NAME}) nor a run (checkpoints/); give one of them")
    table = Table("What", "Verdict", title=str(folder))
    for name, fault in results:
        table.add_row(name, f"[red]{fault}" if fault else "good")
    Console().print(table)
    return int(any(fault for _, fault in results))


def _corpus_faults(folder: Path) -> list[tuple[str, str | None]]:
    files = Corpus(folder).shard_files()
    found = _in_threads(lambda file: shard_fault(*file), files)
    return [(str(path.relative_to(folder)), fault) for (path, _), fault in zip(files, found, strict=True)]


def _checkpoint_faults(checkpoints: Path) -> list[tuple[str, str | None]]:
    folders = [checkpoints / step_name(step) for step in committed_steps(checkpoints)]
    return list(zip((folder.name for folder in folders), _in_threads(_checkpoint_fault, folders), strict=True))


def _checkpoint_fault(folder: Path) -> str | None:
    try:
        commit = read_commit(folder)
        return "; ".join([*unlisted(folder, commit), *faults(folder, commit.files)]) or None
    except CheckpointError as error:
        return str(error)


def _in_threads(check: Callable[[Item], str | None], items: list[Item]) -> list[str | None]:
    with ThreadPoolExecutor(_THREADS) as executor:
        results: Iterable[str | None] = executor.map(check, items)
        return list(track(results, total=len(items), description="verifying", transient=True))
