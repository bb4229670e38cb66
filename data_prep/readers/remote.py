"""Reading files at URLs, through fsspec, in order and with patience for a network that fails."""

import importlib.util
import io
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from pipeline.errors import ConfigError, CorpusError, MissingDependencyError

BLOCK_BYTES = 8 << 20
"""Bytes asked for at a time: large, as each request to an object store takes tens of milliseconds to start."""
PAUSES_SECONDS = (0.5, 2.0, 8.0)
"""How long to wait after each failure; after the last one it is an error."""
_EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs"),
           "http": ("aiohttp", "http"), "https": ("aiohttp", "http")}  # fmt: skip
"""Protocol -> the package that speaks it, and the extra that installs it."""
_NETWORK_ERRORS = (("aiohttp", "ClientError"), ("botocore.exceptions", "BotoCoreError"), ("httpx", "HTTPError"))
"""Errors of the network that are no OSError, in modules that are there only if someone imported them."""
_WEB = ("http://", "https://")
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError)

_Result = TypeVar("_Result")


def is_url(path: str) -> bool:
    """Whether fsspec is to open it."""
    return "://" in path


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the URL's path in it.

    Raises:
        MissingDependencyError: The package for the protocol is not installed.
        ConfigError: There is no such protocol.
    """
    import fsspec

    protocol = url.partition("://")[0]
    package, extra = _EXTRAS.get(protocol, ("", ""))
    if package and importlib.util.find_spec(package) is None:
        raise MissingDependencyError(
            f"{split_query(url)[0]} needs {package}; install it with: pip install 'tarmac[{extra}]'"
        )
    try:
        found: tuple[Any, str] = fsspec.url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(f"{split_query(url)[0]} needs a package that is not installed: {error}") from error
    except ValueError as error:
        raise ConfigError(f"paths: {split_query(url)[0]!r} cannot be opened: {error}") from error
    return found


def is_web(url: str) -> bool:
    """Whether it is fetched by HTTP."""
    return url.startswith(_WEB)


def split_query(url: str) -> tuple[str, str]:
    """A URL of the web without its query, which may be a secret, and the query with its `?`. Other URLs have none."""
    address, mark, query = url.partition("?") if is_web(url) else (url, "", "")
    return address, mark + query


def persistently(url: str, attempt: Callable[[], _Result]) -> _Result:
    """The result of `attempt`, tried again after a pause when the network fails.

    Raises:
        CorpusError: It failed for good, or too often.
    """
    for pause in (*PAUSES_SECONDS, None):
        try:
            return attempt()
        except _PERMANENT as error:
            raise _unreadable(url, error) from None
        except network_errors() as error:
            if pause is None:
                raise _unreadable(url, error) from None
            time.sleep(pause)
    raise AssertionError


def _unreadable(url: str, error: Exception) -> CorpusError:
    """What to tell, without the query: it may be a secret, and errors quote it."""
    address, query = split_query(url)
    said = " ".join(str(error).split()) or type(error).__name__
    said = said.replace(query, "") if query else said
    return CorpusError(f"input {address} cannot be read: {said}; check the address, the network and your credentials")


def network_errors() -> tuple[type[Exception], ...]:
    """What is raised when the network fails, by libraries that are loaded."""
    loaded = ((sys.modules.get(module), name) for module, name in _NETWORK_ERRORS)
    return (OSError, *(getattr(module, name) for module, name in loaded if module))


class RemoteFile(io.RawIOBase):
    """A file at a URL, read in large blocks. A failed read is tried again from where it was.

    Raises CorpusError when that does not help, and what `filesystem` raises.
    """

    def __init__(self, url: str) -> None:
        """Open it on the first read."""
        self._url = url
        self._system, self._path = filesystem(url)
        self._file: Any = None
        self._position = 0
        self._block_bytes = BLOCK_BYTES

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io passes a memoryview
        """Fill a buffer; 0 at the end."""
        data = persistently(self._url, lambda: self._read(len(buffer)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seekable(self) -> bool:
        """It is; where the server knows no ranges, by reading from the start."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place for the next read."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        if start is None:
            start = persistently(self._url, lambda: int(self._system.size(self._path)))
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def close(self) -> None:
        """Close it."""
        self._drop()
        super().close()

    def _read(self, size: int) -> bytes:
        try:
            self._go()
            data: bytes = self._file.read(size)
        except network_errors():
            self._drop()
            raise
        except ValueError:
            self._drop()
            if not self._block_bytes:
                raise
            self._block_bytes = 0  # the server knows no ranges: read it as one stream
            return self._read(size)
        return data

    def _go(self) -> None:
        """Have the file open at the position."""
        if self._file is not None and not self._block_bytes and self._file.tell() > self._position:
            self._drop()
        if self._file is None:
            self._file = self._system.open(self._path, "rb", block_size=self._block_bytes, cache_type="readahead")
        if self._block_bytes:
            self._file.seek(self._position)
        else:
            _discard(self._file, self._position - self._file.tell())

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _discard(file: Any, size: int) -> None:
    while size > 0 and (data := file.read(min(size, BLOCK_BYTES))):
        size -= len(data)
