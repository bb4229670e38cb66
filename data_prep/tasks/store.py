"""Finished tasks on disk: `<work>/<phase>/<key>/` is whole or absent, and `task.json` in it says what it holds."""

import errno
import json
import os
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import xxhash
from pydantic import TypeAdapter, ValidationError

from data_prep.tasks.partial import own_suffix
from data_prep.tasks.task import Task
from pipeline.errors import CorpusError
from pipeline.runtime.columns import counted
from pipeline.runtime.files import atomic_file, sync_file, sync_folder

RECORD_NAME = "task.json"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Output:
    """One file that a task left."""

    name: str
    """Its path below the task's folder."""
    bytes: int
    """Size."""
    xxh3: str
    """128-bit checksum."""


@dataclass(frozen=True)
class Done:
    """A finished task."""

    folder: str
    """Where its files are, relative to the work folder."""
    outputs: tuple[Output, ...]
    """Its files."""
    result: Any
    """What it returned."""


def task_folder(task: Task) -> str:
    """Where a task's files go, relative to the work folder."""
    return f"{task.phase}/{task.key}"


def find_done(work: Path, task: Task, folder: str, without: Collection[str] = ()) -> Done | None:
    """What a task left, if it is finished and all of its files are there; those named in `without` may be missing."""
    done = _recorded(work, task, folder)
    if done and all(_is_there(work / folder / one.name, one) for one in done.outputs if one.name not in without):
        return done
    return None


def damaged_files(work: Path, task: Task, done: Done, without: Collection[str] = ()) -> list[str]:
    """Names of a finished task's files that hold other bytes than it left; those that check themselves are not read."""
    read = [one for one in done.outputs if one.name not in without and not one.name.endswith(task.self_checking)]
    return [one.name for one in read if _checksum(work / done.folder / one.name) != one.xxh3]


def _recorded(work: Path, task: Task, folder: str) -> Done | None:
    """What a task left, by its record alone; None if that is damaged."""
    try:
        record, _, checksum = (work / folder / RECORD_NAME).read_bytes().rpartition(b"\n")
        if checksum != _quoted_checksum(record):
            return None
        return Done(folder, *_record_type(task.result_type).validate_json(record))
    except (FileNotFoundError, ValidationError):
        return None


def _quoted_checksum(record: bytes) -> bytes:
    """The second of a record's two lines of JSON."""
    return f'"{xxhash.xxh3_128_hexdigest(record)}"'.encode()


@cache
def _record_type(result_type: Any) -> "TypeAdapter[tuple[tuple[Output, ...], Any]]":
    """The form of `task.json` for results of a type. It takes milliseconds to make, and there are many tasks."""
    return TypeAdapter(tuple[tuple[Output, ...], result_type])


def _is_there(path: Path, output: Output) -> bool:
    try:
        return path.stat().st_size == output.bytes
    except FileNotFoundError:
        return False


def complete(work: Path, task: Task, folder: str) -> None:
    """Run a task and commit what it leaves: files are synced, then renamed into their place together.

    Raises:
        CorpusError: There is no room, or a task that was finished before, of which files are missing, left others now.
        TarmacError: What the task raises.
    """
    target = work / folder
    partial = target.with_name(target.name + own_suffix())
    try:
        partial.mkdir(parents=True)
        done = _record(partial, task, task.run(work, partial), folder)
        if find_done(work, task, folder) is None:  # else a worker thought dead was faster; others may be reading it
            _require_as_before(work, task, done)
            shutil.rmtree(target, ignore_errors=True)
            _rename(partial, target)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise CorpusError(
            f"work ({work}) cannot be written: {error.strerror}; make room or set work to another folder,"
            " then give the same command: finished tasks are kept"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(partial: Path, target: Path) -> None:
    try:
        os.rename(partial, target)
    except OSError:
        if not (target / RECORD_NAME).exists():
            raise
        return  # another worker, thought dead, has done the same task in the meantime
    sync_folder(target.parent)


def _require_as_before(work: Path, task: Task, done: Done) -> None:
    """Files of a finished task may have been deleted; what others made of them has to fit those that it leaves now."""
    before = _recorded(work, task, done.folder)
    if before is None or before.outputs == done.outputs:
        return
    changed = task.changed_inputs(before.result, done.result)
    if changed:
        raise CorpusError(
            f"{counted(len(changed), 'input')} changed since the first reading, while names, sizes and times did not"
            f" (such as {changed[0]}); give --rehash, with --replace if the corpus is finished"
        )
    raise CorpusError(
        f"work ({work / done.folder}): done again, this task left other bytes than before, though no input changed;"
        " delete that folder and give the same command with --replace"
    )


def _record(partial: Path, task: Task, result: Any, folder: str) -> Done:
    files = sorted(path for path in partial.rglob("*") if path.is_file())
    outputs = tuple(_output(path, path.relative_to(partial).as_posix()) for path in files)
    for parent in {path.parent for path in files}:
        sync_folder(parent)
    values = _record_type(task.result_type).dump_python((outputs, result), mode="json")
    record = json.dumps(values, sort_keys=True, ensure_ascii=False).encode("utf-8")
    with atomic_file(partial / RECORD_NAME) as file:
        file.write(record + b"\n" + _quoted_checksum(record))
    return Done(folder, outputs, result)


def _output(path: Path, name: str) -> Output:
    checksum = _checksum(path)
    sync_file(path)
    return Output(name, path.stat().st_size, checksum)


def _checksum(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def remove_tasks(work: Path) -> None:
    """Delete the finished tasks in a work folder, and the folders of phases that are empty then."""
    for record in work.glob(f"*/*/{RECORD_NAME}"):
        shutil.rmtree(record.parent)
    for phase in work.iterdir():
        if phase.is_dir() and not any(phase.iterdir()):
            phase.rmdir()


def forget(work: Path, folders: Iterable[str], names: Collection[str]) -> None:
    """Delete files of finished tasks; the tasks stay finished for whoever does not need these files."""
    for folder in folders:
        for name in names:
            (work / folder / name).unlink(missing_ok=True)
