"""Bringing one checkpoint to a folder of copies: its files several at once, its COMMIT.json last.

A kill leaves either no COMMIT.json there, so no copy, or all of it. What was sent is not sent again, as long as
SENDING.json says that it belongs to the same commit: sizes alone do not tell, as another branch's files of the same
step have the same ones.
"""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from pipeline.engine.checkpoint.commit import COMMIT_NAME, Commit, FileRecord, file_fault, read_commit
from pipeline.engine.checkpoint.copies import Copies
from pipeline.errors import CheckpointError

SENDING_NAME = "SENDING.json"
_FILES_AT_ONCE = 4
"""Of a large file S3's client holds up to 0.5 GB in memory."""

Item = TypeVar("Item")


def send_checkpoint(copies: Copies, folder: Path) -> int:
    """Send what is missing there of a checkpoint, each file verified before; the bytes sent, 0 if the copy was there.

    A copy of another checkpoint of the same step is replaced.

    Raises:
        CheckpointError: A file cannot be sent, is not what was committed, or the checkpoint was replaced meanwhile.
        OSError: The checkpoint went away meanwhile.
    """
    record = read_commit(folder)
    content = (folder / COMMIT_NAME).read_bytes()
    there = copies.sizes(folder.name)
    if COMMIT_NAME in there and copies.content(f"{folder.name}/{COMMIT_NAME}") == content:
        return 0
    missing = _missing(copies, folder.name, record, there, content)
    _in_daemons(partial(_send_file, copies, folder), missing)
    if (folder / COMMIT_NAME).read_bytes() != content:  # then files of both may be there
        raise CheckpointError(f"{folder} was replaced while it was being sent")
    copies.write(f"{folder.name}/{COMMIT_NAME}", content)
    copies.remove(f"{folder.name}/{SENDING_NAME}")
    return sum(file.bytes for file in missing) + len(content)


def _missing(
    copies: Copies, name: str, record: Commit, there: dict[str, int], content: bytes
) -> tuple[FileRecord, ...]:
    """The files still to be sent, once nothing but this checkpoint's is there."""
    if SENDING_NAME in there and copies.content(f"{name}/{SENDING_NAME}") == content:
        return tuple(file for file in record.files if there.get(file.name) != file.bytes)
    for other in sorted(there, key=lambda one: one != COMMIT_NAME):  # from the first on there is no copy
        copies.remove(f"{name}/{other}")
    copies.write(f"{name}/{SENDING_NAME}", content)
    return record.files


def _send_file(copies: Copies, folder: Path, file: FileRecord) -> None:
    fault = file_fault(folder, file)
    if fault:
        raise CheckpointError(f"{folder.name}: {fault}")
    copies.send(folder / file.name, f"{folder.name}/{file.name}")


def _in_daemons(act: Callable[[Item], None], items: Iterable[Item]) -> None:
    """Act on items, some at once, in threads that a process that ends does not wait for. Raises the first error."""
    rest, errors = iter(list(items)), list[Exception]()  # a list's iterator gives each item to one thread

    def work() -> None:
        for item in rest:
            try:
                act(item)
            except Exception as error:  # raised below, where somebody waits
                errors.append(error)
            if errors:
                return

    threads = [threading.Thread(target=work, name="upload", daemon=True) for _ in range(_FILES_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
