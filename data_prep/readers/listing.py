"""Finding files at URLs, through fsspec."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from data_prep.readers.remote import filesystem, is_web, persistently, split_query

_VERSION_KEYS = ("ETag", "etag", "md5Hash", "md5", "checksum", "blob_id", "Content-MD5", "Digest", "LastModified",
                 "last_modified", "Last-Modified", "updated", "mtime", "created")  # fmt: skip
_WILD = "*?["
_ASKED_AT_ONCE = 16

Found = tuple[str, int, str]
"""Path or URL, size in bytes (0 if unknown) and version of a file."""
_Details = dict[str, dict[str, Any]]
"""Name -> what the file system knows of it, of each file."""


def find_urls(url: str, suffixes: tuple[str, ...]) -> tuple[str, list[Found], str]:
    """The files at a URL: one, those of a folder that end in `suffixes`, or those of a glob.

    A page of the web that is HTML and is not named like a file is the index of a folder: its links are the files.

    Returns:
        The folder that the URL names or is in; the files, without their query; the query.

    Raises:
        CorpusError: The place cannot be reached.
        MissingDependencyError, ConfigError: As `filesystem` raises them.
    """
    system, path = filesystem(url)
    system.invalidate_cache()
    details = persistently(url, lambda: _details(system, path, suffixes))
    query = split_query(url)[1]
    files = [
        (str(system.unstrip_protocol(name)).removesuffix(query), *_size_and_version(info))
        for name, info in details.items()
    ]
    place = split_query(path)[0]
    folder = place.rpartition("/")[0] if path in details else fixed_folder(place.rstrip("/"))
    return str(system.unstrip_protocol(folder)), files, query


def url_folder(url: str) -> str:
    """A folder's URL in the form that those of files below it begin with. Raises what `filesystem` raises."""
    system, path = filesystem(url)
    return str(system.unstrip_protocol(path)).rstrip("/")


def fixed_folder(pattern: str) -> str:
    """The folder above a glob's first wild part; a folder itself."""
    parts = pattern.split("/")
    wild = next((number for number, part in enumerate(parts) if any(sign in part for sign in _WILD)), len(parts))
    return "/".join(parts[:wild])


def _details(system: Any, path: str, suffixes: tuple[str, ...]) -> _Details:
    try:
        info = system.info(path)
    except FileNotFoundError as error:
        if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
            raise error.__cause__ from None  # fsspec calls a server that cannot be reached a missing file, too
        found = system.glob(path, detail=True) if any(sign in path for sign in _WILD) else {}
        return _complete(system, {name: info for name, info in found.items() if info["type"] == "file"})
    if is_web(path) and not split_query(path)[1] and _is_index(path, info, suffixes):
        path = path.rstrip("/") + "/"
    elif info["type"] == "file" and not path.endswith("/"):
        return {path: info}
    found = system.find(path, detail=True)
    return _complete(system, {name: info for name, info in found.items() if name.endswith(suffixes)})


def _is_index(path: str, info: dict[str, Any], suffixes: tuple[str, ...]) -> bool:
    return info.get("mimetype") == "text/html" and not path.endswith(suffixes)


def _complete(system: Any, details: _Details) -> _Details:
    """The details, asked for one by one where a listing has names only."""
    bare = [name for name, info in details.items() if info.get("size") is None]
    return details | dict(zip(bare, _asked(system, bare), strict=True))


def _asked(system: Any, names: Iterable[str]) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return list(pool.map(lambda name: persistently(name, lambda: system.info(name)), names))


def _size_and_version(info: dict[str, Any]) -> tuple[int, str]:
    version = next((info[key] for key in _VERSION_KEYS if info.get(key)), "")
    return int(info.get("size") or 0), str(version)
