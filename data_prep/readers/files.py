"""Finding a reader's input files."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile

from data_prep.readers.decompress import COMPRESSION_RATIO
from data_prep.readers.frames import SUFFIXES
from data_prep.readers.listing import Found, find_urls, url_folder
from data_prep.readers.local import expand
from data_prep.readers.remote import filesystem, is_url, split_query
from pipeline.errors import ConfigError

_UNKNOWN_BYTES = 16 << 20
"""Guess of how much text is in what does not tell its size. Only how work is divided depends on these guesses."""
_COMPRESSED = (*SUFFIXES, ".tgz", ".parquet")
_LOCAL = ("file://", "local://")
_ROOT_MARK = "/./"
"""Where origins begin, as in rsync's `--relative`."""
_URL_FOLDER_PARTS = 3
"""Of `s3://bucket`, divided at slashes."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to read."""

    path: str
    """Where it is: a path on this machine, or a URL that fsspec opens, without its query."""
    origin: str
    """Its path below the folder that its entry of `paths` names, with `/`; this goes into the corpus."""
    bytes: int
    """Size as it is stored; 0 if it is not known."""
    version: str
    """What changes when its content does: modification time in nanoseconds, or of a remote object its ETag, checksum or
    modification time."""
    query: str = field(default="", compare=False, repr=False)
    """The URL's `?…`. It may be a secret that is another one tomorrow, so it is for reading only."""

    @property
    def address(self) -> str:
        """What opens it."""
        return self.path + self.query

    @property
    def text_bytes(self) -> int:
        """About how much text it holds."""
        if not self.bytes and not os.path.isabs(self.path):
            return _UNKNOWN_BYTES
        return self.bytes * (COMPRESSION_RATIO if self.path.endswith(_COMPRESSED) else 1)


def match_files(paths: Sequence[str], suffixes: Sequence[str]) -> list[InputFile]:
    """Files named by `paths`: files, folders (searched for `suffixes`, plain or compressed), globs or URLs of these.

    Each file comes once; they are sorted by origin. An origin is relative to the folder that the file's entry of
    `paths` names or is in, or to what is before `/./` in it: other entries and other files change none.

    Raises:
        ConfigError: One of `paths` matches no file, or two files would have one origin.
        CorpusError: A folder cannot be listed.
        MissingDependencyError: A URL needs a package that is not installed.
    """
    endings = tuple(suffix + packed for suffix in suffixes for packed in ("", *SUFFIXES))
    files: dict[str, InputFile] = {}
    for entry in paths:
        found = _expand(entry, endings)
        if not found:
            looked_for = ", ".join(f"*{suffix}" for suffix in suffixes)
            shown = split_query(entry)[0]
            raise ConfigError(f"paths: {shown!r} matches no file ({looked_for}); give a file, folder, glob or URL")
        for file in found:
            files.setdefault(file.address, file)
    return _by_origin(files.values())


def _expand(entry: str, endings: tuple[str, ...]) -> list[InputFile]:
    """An entry's files."""
    marked, mark, _ = entry.partition(_ROOT_MARK)
    entry = entry.replace(_ROOT_MARK, "/", 1)
    if is_url(entry) and not entry.startswith(_LOCAL):
        root, found, query = find_urls(entry, endings)
        return input_files(found, url_folder(marked) if mark else root, query)
    root, files = expand(_local(entry), endings)
    return input_files(files, _local(marked) if mark else root)


def _local(entry: str) -> str:
    return os.path.abspath(filesystem(entry)[1] if is_url(entry) else entry or "/")


def _by_origin(files: Iterable[InputFile]) -> list[InputFile]:
    """The files in order. Raises ConfigError if two have one origin."""
    ordered = sorted(files, key=lambda file: file.origin)
    for one, other in pairwise(ordered):
        if one.origin == other.origin:
            raise ConfigError(
                f"paths: {one.path} and {other.path} would both be called {one.origin} in the corpus;"
                f" {_cure(one.path, other.path)}"
            )
    return ordered


def _cure(one: str, other: str) -> str:
    """What to do about two files that would have one origin."""
    parts = one.split("/")
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(parts, other.split("/"), strict=False)))
    if same == len(parts) or same < (_URL_FOLDER_PARTS if is_url(one) else 1):
        return "give each a source of its own"
    return f"write {_ROOT_MARK} where names are to begin, such as {'/'.join(parts[:same])}{_ROOT_MARK}{parts[same]}"


def input_files(found: Iterable[Found], root: str, query: str = "") -> list[InputFile]:
    """Files with origins relative to `root`."""
    return [InputFile(path, _origin(path, root), size, version, query) for path, size, version in found]


def _origin(path: str, root: str) -> str:
    """The path below `root`; bytes of a name that are not UTF-8 are spelled out."""
    below = path[len(root) :].lstrip("/")
    return below if below.isascii() else os.fsencode(below).decode("utf-8", "backslashreplace")
