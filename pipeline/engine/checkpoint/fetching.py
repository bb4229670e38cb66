"""The way back: a checkpoint out of a folder of copies into a run folder, whole or absent there as any other."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from rich.console import Console

from pipeline.corpus.remote.patience import DamagedBodyError
from pipeline.engine.checkpoint.commit import (
    Commit,
    FileRecord,
    all_faults,
    begin,
    commit,
    file_fault,
    read_commit,
    set_aside,
    step_name,
)
from pipeline.engine.checkpoint.copies import Copies
from pipeline.errors import CheckpointError
from pipeline.runtime.files import atomic_file, available_bytes
from pipeline.runtime.logs import get_logger
from pipeline.runtime.threads import in_threads

_log = get_logger("checkpoints")


def copied(url: str) -> list[Commit]:
    """The commits of the copies at a URL, by branch and step; one that cannot be read is named in the log and left out.

    Raises:
        CheckpointError, ConfigError, MissingDependencyError: It cannot be reached.
    """
    copies = Copies(url)
    found = [_commit(copies, step) for step in copies.steps()]
    return sorted((one for one in found if one is not None), key=lambda one: (one.branch, one.step))


def fetch_checkpoint(
    url: str, checkpoints: Path, step: int | None = None, is_ours: Callable[[Commit], bool] = lambda commit: True
) -> Path:
    """Bring a copy, every file verified, and what the run folder lacks of the run's own files; its folder.

    Whoever calls it holds the run's lock. A checkpoint that is here already is verified, not fetched; a damaged one is
    set aside.

    Args:
        url: Where the copies are.
        checkpoints: The run's `checkpoints` folder, which is made if missing.
        step: Which one; the newest if not given: the last of the last branch, as those of earlier branches may be
            what a rollback went back behind.
        is_ours: Whether a commit is of the run in whose folder it goes.

    Raises:
        CheckpointError: There is no such copy, it cannot be fetched or is damaged, there is no room for it, or another
            checkpoint of the step is here.
        ConfigError, MissingDependencyError: The URL cannot be opened.
    """
    copies = Copies(url)
    record = _chosen(copies, url, step)
    if not is_ours(record):
        raise CheckpointError(
            f"{copies} holds checkpoints of another run than {checkpoints.parent}; choose another folder"
        )
    final = checkpoints / step_name(record.step)
    if not _is_here(final, record):
        _bring(copies, record, checkpoints)
    _bring_run_files(copies, checkpoints.parent)  # last: until then the run folder is none, and no run begins in it
    return final


def _commit(copies: Copies, step: int) -> Commit | None:
    try:
        return copies.commit(step)
    except CheckpointError as error:
        _log.warning("copy left out: %s", error)
        return None


def _chosen(copies: Copies, url: str, step: int | None) -> Commit:
    found = copies.commit(step) if step is not None else next(reversed(copied(url)), None)
    if found is None:
        what = "checkpoint" if step is None else f"checkpoint of step {step}"
        raise CheckpointError(f"{copies} has no {what}; list what is there with: tarmac checkpoints URL")
    return found


def _require_inside(name: str) -> None:
    """Names come from outside, and files are written by them. Raises CheckpointError."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise CheckpointError(f"the copy names a file outside of its folder ({name!r}); do not use it")


def _is_here(folder: Path, record: Commit) -> bool:
    """Whether the checkpoint is here and whole; if it is damaged, it is set aside. Raises CheckpointError."""
    if not folder.exists():
        return False
    try:
        here = read_commit(folder)
    except CheckpointError as error:
        return _put_aside(folder, str(error))
    if here != record:
        raise CheckpointError(
            f"{folder} is another checkpoint than the copy (branch {here.branch}, there {record.branch});"
            " move it away first"
        )
    found = all_faults(folder, here)
    return _put_aside(folder, "; ".join(found)) if found else True


def _put_aside(folder: Path, reason: str) -> bool:
    _log.warning("checkpoint %s is damaged and set aside: %s", folder, reason)
    set_aside(folder, reason)
    return False


def _bring(copies: Copies, record: Commit, checkpoints: Path) -> None:
    """Fetch, verify and commit a checkpoint; nothing is left of one that cannot be."""
    partial_folder = begin(checkpoints, record.step)
    try:
        free = available_bytes(checkpoints)
        if free < record.bytes:
            raise CheckpointError(
                f"the checkpoint of step {record.step} has {record.bytes / 1e6:,.1f} MB and {checkpoints}"
                f" {free / 1e6:,.1f} MB left; free some space"
            )
        bring = partial(_bring_file, copies, partial_folder, step_name(record.step))
        in_threads(bring, record.files, "fetching", Console(stderr=True))
        commit(partial_folder, record)
    except BaseException:
        shutil.rmtree(partial_folder, ignore_errors=True)
        raise


def _bring_file(copies: Copies, folder: Path, copy: str, file: FileRecord) -> None:
    path, name = folder / file.name, f"{copy}/{file.name}"
    path.parent.mkdir(parents=True, exist_ok=True)

    def attempt() -> None:
        copies.download(name, path, file.bytes)
        if fault := file_fault(folder, file):
            raise DamagedBodyError(fault)

    copies.patiently(name, "fetched", attempt)


def _bring_run_files(copies: Copies, run: Path) -> None:
    """Fetch the run's own files that are missing; none is replaced."""
    for name in copies.run_files():
        _require_inside(name)
        content = None if (run / name).exists() else copies.content(name)
        if content is not None:
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(run / name) as file:
                file.write(content)
