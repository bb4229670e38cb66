"""The commit protocol: a checkpoint folder exists under its name only when every byte of it is on disk.

    step-00001000.partial/   being written; deleted when found at the next save
    step-00001000/           whole: COMMIT.json lists every file with its size and sha256, and carries its own checksum
    step-00001000.corrupt/   failed verification; REASON.txt says why
    step-00001000.abandoned-1/   what the first rollback went back behind; never read again

The hashes stop damage, not an attacker who can rewrite COMMIT.json too.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import CheckpointError, FormatError, UnreadableError
from pipeline.runtime.files import sync_file, sync_folder, write_json

FORMAT_VERSION = 3
COMMIT_NAME = "COMMIT.json"
_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)
"""What the system says of a file that is not as it was written."""
_STEP_FOLDER = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class FileRecord:
    """One file of a checkpoint."""

    name: str
    """Path inside the checkpoint folder."""
    bytes: int
    """Size."""
    sha256: str
    """Checksum."""


@dataclass(frozen=True)
class Commit:
    """What `COMMIT.json` says."""

    step: int
    """Updates made."""
    world_size: int
    """Ranks that wrote it."""
    branch: int
    """How often the run was rolled back before."""
    made_by: dict[str, Any]
    """ZeRO stage, precision, host and time; for people, nothing depends on it."""
    state: dict[str, Any]
    """The training state besides tensors: tokens seen, phase table, what the weights belong to."""
    files: tuple[FileRecord, ...]
    """Every file."""

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


def step_name(step: int) -> str:
    """Folder name of a step's checkpoint."""
    return f"step-{step:08d}"


def begin(checkpoints: Path, step: int) -> Path:
    """An empty `.partial` folder for a step; left-over ones are deleted first."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    for leftover in checkpoints.glob("step-*.partial"):
        shutil.rmtree(leftover, ignore_errors=leftover.name != f"{step_name(step)}.partial")
    partial = checkpoints / f"{step_name(step)}.partial"
    partial.mkdir()
    return partial


def commit(partial: Path, commit: Commit) -> Path:
    """Make a fully written `.partial` folder the checkpoint: sync, write COMMIT.json, rename, sync the parent.

    Files that the commit does not list are deleted. Raises CheckpointError if a listed one is missing or cut short.
    """
    _keep_only(partial, {file.name for file in commit.files})
    for file in commit.files:
        path = partial / file.name
        if not path.is_file() or path.stat().st_size != file.bytes:
            raise CheckpointError(f"{path} is missing or short after writing; is the run folder shared by all nodes?")
        sync_file(path)
    for folder in {partial, *(path for path in partial.rglob("*") if path.is_dir())}:
        sync_folder(folder)
    body = {"format_version": FORMAT_VERSION, **asdict(commit)}
    write_json(partial / COMMIT_NAME, {**body, "checksum": _checksum(body)})
    final = partial.with_suffix("")
    doomed = final.with_name(f"{final.name}.replaced.partial")
    if final.exists():  # the same step again; never half deleted under its final name
        os.rename(final, doomed)
    os.rename(partial, final)
    sync_folder(final.parent)
    shutil.rmtree(doomed, ignore_errors=True)
    return final


def hashed_file(folder: Path, name: str, data: bytes) -> FileRecord:
    """Write a small file of a checkpoint, synced; what it is. Raises OSError."""
    with open(folder / name, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(name, len(data), hashlib.sha256(data).hexdigest())


def _keep_only(folder: Path, names: set[str]) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in names:
            path.unlink()


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode("utf-8")).hexdigest()


def read_commit(folder: Path) -> Commit:
    """Read and check `COMMIT.json`. Raises CheckpointError saying what is wrong with it."""
    try:
        body = json.loads((folder / COMMIT_NAME).read_bytes())
        checksum = body.pop("checksum")
        if checksum != _checksum(body):
            raise CheckpointError(f"{folder.name}: {COMMIT_NAME} does not match its checksum")
        if (version := body.pop("format_version")) != FORMAT_VERSION:
            raise FormatError(
                f"{folder.name}: {COMMIT_NAME} has format version {version}, this Tarmac reads {FORMAT_VERSION};"
                " go on with the Tarmac that wrote it"
            )
        files = tuple(FileRecord(**file) for file in body.pop("files"))
        if strange := [file.name for file in files if not _is_inside(file.name)]:
            raise CheckpointError(
                f"{folder.name}: {COMMIT_NAME} names {strange[0]}, outside of the folder; do not use it"
            )
        found = Commit(**body, files=files)
        if folder.name.startswith("step-") and folder.name.split(".")[0] != step_name(found.step):
            raise CheckpointError(f"{folder.name}: {COMMIT_NAME} is of step {found.step}; restore the folder's name")
        return found
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder.name}: {COMMIT_NAME} is missing") from error
    except OSError as error:
        raise CheckpointError(f"{folder.name}: {COMMIT_NAME} {_trouble(folder / COMMIT_NAME, error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder.name}: {COMMIT_NAME} is damaged ({error})") from error


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _trouble(path: Path, error: OSError) -> str:
    """What is wrong with a file that cannot be read, where that is damage.

    Raises UnreadableError where it is not: rights, a mount that is gone, too many open files.
    """
    if error.errno not in _DAMAGE:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}; mend its rights or the mount") from error
    return f"cannot be read: {error.strerror}"


def file_fault(folder: Path, file: FileRecord) -> str | None:
    """What is wrong with one file, in words; None if its bytes are those committed. Nothing is unpickled."""
    path = folder / file.name
    try:
        if path.stat().st_size != file.bytes:
            return f"{file.name} has {path.stat().st_size} bytes, should have {file.bytes}"
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"{file.name} {_trouble(path, error)}"
    return None if digest == file.sha256 else f"{file.name} has other bytes than were written"


def faults(folder: Path, files: Iterable[FileRecord]) -> list[str]:
    """What is wrong with some files of a checkpoint."""
    return [fault for file in files if (fault := file_fault(folder, file)) is not None]


def unlisted(folder: Path, commit: Commit) -> list[str]:
    """Files in a checkpoint folder that its commit does not list, each with a word on it; they are never read."""
    known = {COMMIT_NAME, *(file.name for file in commit.files)}
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return [f"{name} is not listed in {COMMIT_NAME}" for name in found if name not in known]


def all_faults(folder: Path, commit: Commit) -> list[str]:
    """What is wrong with a checkpoint whose commit is good: every byte of it is compared."""
    return [*unlisted(folder, commit), *faults(folder, commit.files)]


def committed_steps(checkpoints: Path) -> list[int]:
    """Steps that have a checkpoint folder under its final name, ascending; verified or not."""
    if not checkpoints.is_dir():
        return []
    names = (_STEP_FOLDER.fullmatch(path.name) for path in checkpoints.iterdir() if path.is_dir())
    return sorted(int(match[1]) for match in names if match)


def newest_commit(checkpoints: Path) -> Commit | None:
    """The newest commit that is whole itself, its files not looked at; None if there is none."""
    for step in reversed(committed_steps(checkpoints)):
        try:
            return read_commit(checkpoints / step_name(step))
        except CheckpointError:
            continue
    return None


def set_aside(folder: Path, reason: str) -> Path:
    """Rename a bad checkpoint to `.corrupt` (numbered if taken) with its reason inside; nothing is deleted."""
    target = _renamed(folder, "corrupt")
    (target / "REASON.txt").write_text(reason + "\n", encoding="utf-8")
    return target


def abandon(folder: Path, branch: int) -> Path:
    """Rename a checkpoint that a rollback left behind to `.abandoned-K`; nothing is deleted."""
    return _renamed(folder, f"abandoned-{branch}")


def _renamed(folder: Path, word: str) -> Path:
    """Rename a checkpoint so that it is none any more, synced; numbered if the name is taken."""
    target = folder.with_name(f"{folder.name}.{word}")
    number = 1
    while target.exists():
        number += 1
        target = folder.with_name(f"{folder.name}.{word}-{number}")
    os.rename(folder, target)
    sync_folder(target.parent)
    return target
