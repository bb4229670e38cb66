"""Finding files on this machine: below a folder, or by a glob. Links are followed; what cannot be listed is told."""

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from data_prep.readers.listing import Found, fixed_folder
from pipeline.errors import CorpusError

_Folders = frozenset[tuple[int, int]]
"""Device and number of the folders that one is in."""


def expand(path: str, suffixes: tuple[str, ...]) -> tuple[str, Iterator[Found]]:
    """The folder that an absolute path names or is in, and its files: one, those of a folder, or those of a glob.

    Iterating raises CorpusError if a folder cannot be listed or a file's link leads nowhere.
    """
    if os.path.isdir(path):
        return path, walk(path, suffixes)
    if os.path.isfile(path):
        return os.path.dirname(path), iter([_found(path)])
    folder = fixed_folder(path)
    if folder == path:
        return folder, _nothing(path)
    return folder, _matches(folder, path[len(folder) :].strip("/").split("/"), frozenset())


def walk(folder: str, suffixes: tuple[str, ...], skipped: Sequence[str] = ()) -> Iterator[Found]:
    """Files below a folder whose names end in one of `suffixes`; folders named in `skipped` are left out.

    Raises CorpusError if a folder cannot be listed or a file's link leads nowhere.
    """
    folders = [(folder, _Folders())]
    while folders:
        path, above = folders.pop()
        here = above | {_identity(path)}
        for entry in _entries(path):
            if _is_folder(entry):
                if entry.name not in skipped and not _is_loop(entry, here):
                    folders.append((entry.path, here))
            elif entry.name.endswith(suffixes):
                yield from _file(entry)


def _matches(folder: str, parts: list[str], above: _Folders) -> Iterator[Found]:
    """Files below a folder by the parts of a glob, as Python's `glob` understands it; some may come twice."""
    if not os.path.isdir(folder):
        return
    part, rest = parts[0], parts[1:]
    here = above | {_identity(folder)}
    if part == "**":
        yield from _matches(folder, rest or ["*"], above)
    for entry in _entries(folder):
        if not fnmatchcase(entry.name, part) or (entry.name.startswith(".") and not part.startswith(".")):
            continue
        if not _is_folder(entry):
            if not rest and part != "**":
                yield from _file(entry)
        elif not _is_loop(entry, here) and (rest or part == "**"):
            yield from _matches(entry.path, parts if part == "**" else rest, here)


def _nothing(path: str) -> Iterator[Found]:
    """No file, as there is none of that name; raises CorpusError if there is one that cannot be looked at."""
    try:
        os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            yield _found(path)
    except OSError:
        yield _found(path)


def _file(entry: "os.DirEntry[str]") -> Iterator[Found]:
    found = _found(entry.path)
    if entry.is_file():
        yield found


def _found(path: str) -> Found:
    try:
        status = os.stat(path)
    except OSError as error:
        why = "is a link that leads nowhere" if os.path.islink(path) else f"cannot be read: {error.strerror}"
        raise CorpusError(f"input {path} {why}; mend the file, or leave it out") from error
    return path, status.st_size, str(status.st_mtime_ns)


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise CorpusError(f"input folder {folder} cannot be listed: {error.strerror}; mend or leave it out") from error


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_loop(entry: "os.DirEntry[str]", above: _Folders) -> bool:
    """Whether a link leads to a folder that it is in."""
    return entry.is_symlink() and _identity(entry.path) in above
