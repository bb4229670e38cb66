"""Finding a reader's input files."""

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError

COMPRESSION_RATIO = 4
"""Guess of how much larger the text of a compressed file is. Only how work is divided depends on it."""
_WILD = "*?["


@dataclass(frozen=True)
class InputFile:
    """One file to read."""

    path: str
    """Where it is on this machine."""
    origin: str
    """Its path below the folder that was named, with `/`; this goes into the corpus."""
    bytes: int
    """Size on disk."""

    @property
    def text_bytes(self) -> int:
        """About how much text it holds."""
        return self.bytes * (COMPRESSION_RATIO if self.path.endswith((".gz", ".zst")) else 1)


def match_files(paths: Sequence[str], suffixes: Sequence[str]) -> list[InputFile]:
    """Files named by `paths`: files, folders (searched for `suffixes`) or globs, each file once.

    Origins are relative to the deepest folder that holds all of `paths`, so they are distinct, and another file in a
    folder changes none of them.

    Raises:
        ConfigError: One of `paths` matches no file.
    """
    roots, found = list[str](), set[str]()
    for entry in paths:
        root, files = _expand(os.path.abspath(entry), suffixes)
        if not files:
            looked_for = ", ".join(f"*{suffix}" for suffix in suffixes)
            raise ConfigError(f"paths: {entry!r} matches no file ({looked_for}); give a file, folder or glob")
        roots.append(root)
        found.update(files)
    return input_files(found, os.path.commonpath(roots))


def _expand(path: str, suffixes: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that a path names or is in, and the files."""
    if os.path.isdir(path):
        return path, walk(path, suffixes)
    if os.path.isfile(path):
        return os.path.dirname(path), [path]
    return _fixed_folder(path), [file for file in glob.glob(path, recursive=True) if os.path.isfile(file)]


def _fixed_folder(pattern: str) -> str:
    """The folder above a glob's first wild part."""
    parts = Path(pattern).parts
    wild = next((number for number, part in enumerate(parts) if any(sign in part for sign in _WILD)), len(parts) - 1)
    return str(Path(*parts[:wild]))


def walk(folder: str, suffixes: Sequence[str], skipped: Sequence[str] = ()) -> list[str]:
    """Files below a folder whose names end in one of `suffixes`; folders named in `skipped` are left out."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in skipped]
        paths = (os.path.join(parent, name) for name in names if name.endswith(tuple(suffixes)))
        found += [path for path in paths if os.path.isfile(path)]
    return found


def input_files(paths: Iterable[str], root: str) -> list[InputFile]:
    """Files with origins relative to `root`, sorted by origin."""
    files = [InputFile(path, _origin(path, root), os.path.getsize(path)) for path in paths]
    return sorted(files, key=lambda file: file.origin)


def _origin(path: str, root: str) -> str:
    """The path below `root`; bytes of a name that are not UTF-8 are spelled out."""
    return os.fsencode(Path(os.path.relpath(path, root)).as_posix()).decode("utf-8", "backslashreplace")
