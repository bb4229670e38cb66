"""The files below a URL, through fsspec."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.corpus.remote.patience import DamagedBodyError, Patience
from pipeline.corpus.remote.urls import filled_in, join, shown
from pipeline.errors import ConfigError, MissingDependencyError

_PACKAGES = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs"),
             "http": ("aiohttp", "http"), "https": ("aiohttp", "http")}  # fmt: skip
"""Protocol -> the package that speaks it, and the extra that installs it."""

_BLOCK_BYTES = 8 << 20


class Store:
    """A folder at a URL."""

    def __init__(self, url: str, patience: Patience, timeout_seconds: float) -> None:
        """Prepare to read below a URL; nothing is asked of the network yet.

        Raises:
            MissingDependencyError: The package for the protocol is not installed.
            ConfigError: There is no such protocol.
        """
        self._url, self.patience = filled_in(url), patience
        self._system = _filesystem(self._url, timeout_seconds)

    def __str__(self) -> str:
        return shown(self._url)

    def read(self, name: str) -> bytes:
        """A small file, asked for once. Raises what the network does."""
        content: bytes = self._system.cat_file(self._path(join(self._url, name)))
        return content

    def blocks(self, name: str) -> Iterator[bytes]:
        """A file, block by block. Raises what the network does."""
        path = self._path(join(self._url, name))
        with self._system.open(path, "rb", block_size=_BLOCK_BYTES, cache_type="readahead") as file:
            while block := file.read(_BLOCK_BYTES):
                yield block

    def download(self, name: str, path: Path, num_bytes: int) -> None:
        """Write a file to a path, once. Raises DamagedBodyError at another size, and what the network does."""
        self._system.get_file(self._path(join(self._url, name)), str(path))
        if path.stat().st_size != num_bytes:
            raise DamagedBodyError(f"{path.stat().st_size} bytes arrived, should be {num_bytes}")

    def shown(self, name: str) -> str:
        """A file's URL as it may be told."""
        return shown(join(self._url, name))

    def _path(self, url: str) -> str:
        path: str = self._system._strip_protocol(url)
        return path


def _filesystem(url: str, timeout_seconds: float) -> Any:
    import fsspec

    protocol = url.partition("://")[0]
    package, extra = _PACKAGES.get(protocol, ("", ""))
    if package and importlib.util.find_spec(package) is None:
        raise MissingDependencyError(f"{shown(url)} needs {package}; install it with: pip install 'tarmac[{extra}]'")
    try:
        system = fsspec.filesystem(protocol, **_options(package, timeout_seconds))
    except ImportError as error:
        raise MissingDependencyError(f"{shown(url)} needs a package that is not installed: {error}") from error
    except ValueError as error:
        raise ConfigError(f"corpus {shown(url)} cannot be opened: {shown(str(error))}") from None
    if package == "s3fs":
        system.retries = 1  # we try again ourselves: attempts inside of attempts would multiply, uncounted
    return system


def _options(package: str, timeout_seconds: float) -> dict[str, Any]:
    """No attempts but ours, listings not kept, and a bound for a silent connection instead of a whole download."""
    if package == "s3fs":
        network = {"connect_timeout": timeout_seconds, "read_timeout": timeout_seconds}
        return {"config_kwargs": {"retries": {"total_max_attempts": 1}, **network}, "use_listings_cache": False}
    if package == "aiohttp":
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=timeout_seconds, sock_read=timeout_seconds)
        return {"client_kwargs": {"timeout": timeout}, "use_listings_cache": False}
    return {}
