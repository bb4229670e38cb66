"""What was not taken: `rejects/<source>.jsonl` of all tasks, and `dropped/<source>-<number>.jsonl.zst` of each."""

import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from data_prep.built import BuiltSource
from data_prep.reading.losses import DROPPED_NAME, REJECTS_NAME
from pipeline.corpus.manifest import FileEntry
from pipeline.corpus.verification import file_entry
from pipeline.runtime.files import atomic_file


def write_losses(source: BuiltSource, work: Path, folder: Path, there: Collection[str]) -> dict[str, FileEntry]:
    """Put a source's rejects and dropped documents into a corpus folder, but not the files that are `there` already.

    Returns:
        The files that were put, by their path in the folder.
    """
    return {**_write_rejects(source, work, folder, there), **_link_dropped(source, work, folder, there)}


def _write_rejects(source: BuiltSource, work: Path, folder: Path, there: Collection[str]) -> dict[str, FileEntry]:
    name = f"rejects/{source.plan.source.name}.jsonl"
    paths = [
        work / done.folder / REJECTS_NAME
        for done in source.reads
        if any(output.name == REJECTS_NAME for output in done.outputs)
    ]
    if not paths or name in there:
        return {}
    _join(paths, folder / name)
    return {name: file_entry(folder / name)}


def _link_dropped(source: BuiltSource, work: Path, folder: Path, there: Collection[str]) -> dict[str, FileEntry]:
    linked: dict[str, FileEntry] = {}
    for number, done in enumerate(source.reads):
        name = f"dropped/{source.plan.source.name}-{number:06d}.jsonl.zst"
        for output in done.outputs:
            if output.name == DROPPED_NAME and name not in there:
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).unlink(missing_ok=True)
                link(work / done.folder / DROPPED_NAME, folder / name)
                linked[name] = FileEntry(bytes=output.bytes, xxh3=output.xxh3)
    return linked


def _join(paths: Iterable[Path], target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with atomic_file(target) as file:
        for path in paths:
            file.write(path.read_bytes())


def link(path: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system cannot."""
    try:
        os.link(path, target)
    except OSError:
        with open(path, "rb") as source, atomic_file(target) as file:
            shutil.copyfileobj(source, file, 1 << 20)
