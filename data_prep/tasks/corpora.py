"""Which tasks each corpus was made by: what belongs to none may go, and what a kill has left to do is seen."""

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from data_prep.tasks.store import RECORD_NAME
from pipeline.runtime.files import write_json

_FOLDER = "corpora"


@dataclass(frozen=True)
class CorpusRecord:
    """What a work folder knows of a corpus."""

    output: str
    """Its folder."""
    tasks: frozenset[str] = frozenset()
    """Folders of the tasks that it was made by, relative to the work folder."""
    is_settled: bool = False
    """Whether nothing is left to do: the report is written, and what need not stay is deleted."""


_RECORD = TypeAdapter(CorpusRecord)


def read_record(work: Path, output: Path) -> CorpusRecord | None:
    """What a work folder knows of a corpus; None if nothing."""
    return _read(_path(work, output))


def begin_record(work: Path, output: Path) -> frozenset[str]:
    """Note that a corpus is being made, and return by which tasks it was made before."""
    before = read_record(work, output)
    tasks = before.tasks if before else frozenset[str]()
    write_record(work, output, tasks)
    return tasks


def write_record(work: Path, output: Path, tasks: Iterable[str], is_settled: bool = False) -> None:
    """Note a corpus's tasks."""
    path = _path(work, output)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"output": str(output), "tasks": sorted(tasks), "is_settled": is_settled})


def remove_records(work: Path) -> None:
    """Forget all corpora."""
    shutil.rmtree(work / _FOLDER, ignore_errors=True)


def remove_unused(work: Path, output: Path) -> None:
    """Delete the finished tasks that neither this corpus nor another in the same work folder was made by.

    If another one is still being made, nothing is deleted: nobody knows yet what it needs.
    """
    mine = _path(work, output)
    records = {path: _read(path) for path in (work / _FOLDER).glob("*.json")}
    if any(record is None or not record.is_settled for path, record in records.items() if path != mine):
        return
    there = [record for path, record in records.items() if record and (path == mine or Path(record.output).exists())]
    used = frozenset[str]().union(*(record.tasks for record in there))
    for path in work.glob(f"*/*/{RECORD_NAME}"):
        if path.parent.relative_to(work).as_posix() not in used:
            shutil.rmtree(path.parent)


def _path(work: Path, output: Path) -> Path:
    return work / _FOLDER / f"{hashlib.sha256(str(output).encode()).hexdigest()[:32]}.json"


def _read(path: Path) -> CorpusRecord | None:
    try:
        return _RECORD.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
