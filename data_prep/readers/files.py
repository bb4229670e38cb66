"""Finding a reader's input files."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from data_prep.readers import decompress
from data_prep.readers.remote import Found, filesystem, find_urls, fixed_folder, is_url
from pipeline.errors import ConfigError, CorpusError

COMPRESSION_RATIO = 4
"""Guess of how much larger the text of a compressed file is. Only how work is divided depends on it."""
_COMPRESSED = (*decompress.SUFFIXES, ".tgz", ".parquet")
_LOCAL = ("file://", "local://")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to read."""

    path: str
    """Where it is: a path on this machine, or a URL that fsspec opens."""
    origin: str
    """Its path below the deepest folder that all inputs are in, with `/`; this goes into the corpus."""
    bytes: int
    """Size as it is stored."""
    version: str
    """What changes when its content does: modification time in nanoseconds, or of a remote object its ETag, checksum or
    modification time."""

    @property
    def text_bytes(self) -> int:
        """About how much text it holds."""
        return self.bytes * (COMPRESSION_RATIO if self.path.endswith(_COMPRESSED) else 1)


def match_files(paths: Sequence[str], suffixes: Sequence[str]) -> list[InputFile]:
    """Files named by `paths`: files, folders (searched for `suffixes`, plain or compressed), globs or URLs of these.

    Each file comes once; they are sorted by origin. Origins are relative to the deepest folder that holds all of
    `paths`, so they are distinct, and another file in a folder changes none of them.

    Raises:
        ConfigError: One of `paths` matches no file.
        CorpusError: A folder cannot be listed.
        MissingDependencyError: A URL needs a package that is not installed.
    """
    endings = tuple(suffix + packed for suffix in suffixes for packed in ("", *decompress.SUFFIXES))
    roots, found = list[str](), set[Found]()
    for entry in paths:
        root, files = _expand(entry, endings)
        if not files:
            looked_for = ", ".join(f"*{suffix}" for suffix in suffixes)
            raise ConfigError(f"paths: {entry!r} matches no file ({looked_for}); give a file, folder, glob or URL")
        roots.append(root)
        found.update(files)
    return input_files(found, _common_folder(roots))


def _expand(entry: str, endings: tuple[str, ...]) -> tuple[str, list[Found]]:
    """The folder that an entry names or is in, and its files."""
    if is_url(entry) and not entry.startswith(_LOCAL):
        return find_urls(entry, endings)
    path = os.path.abspath(filesystem(entry)[1] if is_url(entry) else entry)
    if os.path.isdir(path):
        return path, list(walk(path, endings))
    if os.path.isfile(path):
        return os.path.dirname(path), [_found(path, os.stat(path))]
    matches = (match for match in glob.iglob(path, recursive=True) if os.path.isfile(match))
    return fixed_folder(path), [_found(match, os.stat(match)) for match in matches]


def _found(path: str, status: os.stat_result) -> Found:
    return path, status.st_size, str(status.st_mtime_ns)


def walk(folder: str, suffixes: tuple[str, ...], skipped: Sequence[str] = ()) -> Iterator[Found]:
    """Files below a folder whose names end in one of `suffixes`; folders named in `skipped` are left out.

    Raises CorpusError if a folder cannot be listed.
    """
    folders = [folder]
    while folders:
        for entry in _entries(folders.pop()):
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in skipped:
                    folders.append(entry.path)
            elif entry.name.endswith(suffixes) and entry.is_file():
                yield _found(entry.path, entry.stat())


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise CorpusError(f"input folder {folder} cannot be listed: {error.strerror}; mend or leave it out") from error


def _common_folder(folders: Sequence[str]) -> str:
    """The deepest folder that is or holds all of them; nothing if there is none."""
    split = [folder.split("/") for folder in folders]
    common = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return "/".join(common)


def input_files(found: Iterable[Found], root: str) -> list[InputFile]:
    """Files with origins relative to `root`, sorted by origin."""
    files = [InputFile(path, _origin(path, root), size, version) for path, size, version in found]
    return sorted(files, key=lambda file: file.origin)


def _origin(path: str, root: str) -> str:
    """The path below `root`; bytes of a name that are not UTF-8 are spelled out."""
    below = path[len(root) :].lstrip("/")
    return below if below.isascii() else os.fsencode(below).decode("utf-8", "backslashreplace")
