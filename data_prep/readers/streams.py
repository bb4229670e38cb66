"""Opening input files: hashed as they are read, and decompressed."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import xxhash

from data_prep.readers.decompress import DecompressedStream
from data_prep.readers.files import InputFile
from data_prep.readers.flaw import Flaw
from data_prep.readers.frames import codec_of
from data_prep.readers.remote import RemoteFile, is_url
from pipeline.errors import CorpusError

_BUFFER_BYTES = 1 << 20


def open_raw(file: InputFile) -> io.RawIOBase:
    """A file as it is stored. Opening it and reading raise CorpusError, and nothing else, where that fails."""
    return RemoteFile(file.address) if is_url(file.path) else _LocalFile(file.path)


class _LocalFile(io.FileIO):
    """A file on this machine. Libraries take an OSError for damage of the data, so it raises none."""

    def __init__(self, path: str) -> None:
        with _readable(path):
            super().__init__(path, "rb")

    def read(self, size: int | None = -1) -> bytes:
        with _readable(str(self.name)):
            return super().read(-1 if size is None else size)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io passes a memoryview
        with _readable(str(self.name)):
            return super().readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _readable(str(self.name)):
            return super().seek(offset, whence)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CorpusError(
            f"input {path} cannot be read: {error.strerror or error}; mend the file, or leave it out"
        ) from error


class HashedFile(io.RawIOBase):
    """The bytes of a file as they are stored, hashed on the way. Raises CorpusError if they cannot be read."""

    def __init__(self, file: InputFile) -> None:
        """Open the file."""
        self._file = file
        self._raw = open_raw(file)
        self._hash = xxhash.xxh3_128()
        self._size = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """How much is read."""
        return self._size

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io passes a memoryview
        """Fill a buffer; 0 at the end."""
        size = cast(int, self._raw.readinto(buffer))
        self._hash.update(buffer[:size])
        self._size += size
        return size

    def finish(self) -> str:
        """The hash of the whole file, of which the rest is read. Raises CorpusError if it is not as long as planned."""
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        while self.readinto(buffer):
            pass
        if self._file.bytes not in (0, self._size):  # 0 where a server does not tell
            raise CorpusError(
                f"input {self._file.path} changed: {self._file.bytes} bytes were planned, {self._size} read;"
                " let nobody write to it and prepare again"
            )
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._raw.close()
        super().close()


def hash_content(file: InputFile) -> str:
    """xxh3_128 of a file's bytes as they are stored, in hexadecimal. Raises CorpusError if it cannot be read."""
    with HashedFile(file) as hashed:
        return hashed.finish()


def decompressed(file: io.RawIOBase, name: str) -> io.BufferedReader:
    """The content of a file: decompressed if its name or its first bytes say so. Reading it may raise Flaw.

    Its `tell` says how much content lies before a place, what was lost included.
    """
    stored: io.BufferedReader = io.BufferedReader(file, _BUFFER_BYTES)
    codec = codec_of(name, stored.peek(1))
    return io.BufferedReader(DecompressedStream(stored, codec), _BUFFER_BYTES) if codec else stored


def pass_over(stream: io.BufferedReader) -> int:
    """Read to the end; how much content that was, with what was damaged of it."""
    start = stream.tell()
    while _has_more(stream):
        pass
    return stream.tell() - start


def _has_more(stream: io.BufferedReader) -> bool:
    try:
        return bool(stream.read(_BUFFER_BYTES))
    except Flaw:
        return True


@contextmanager
def open_input(path: str) -> Iterator[io.BufferedReader]:
    """The content of a file or URL that must be whole, such as a list: decompressed.

    Raises:
        CorpusError: It cannot be read, or its compressed data is damaged or cut short.
    """
    try:
        with HashedFile(InputFile(path, path, 0, "")) as file:
            yield decompressed(file, path)
    except Flaw as flaw:
        raise CorpusError(
            f"input {path} is damaged or cut short ({flaw.detail}); fetch it again or leave it out"
        ) from flaw


def peek(stream: io.BufferedReader) -> tuple[bytes, list[Flaw]]:
    """Some of what comes next, which is not taken; or the flaw that comes before it, which is."""
    try:
        return stream.peek(1), []
    except Flaw as flaw:
        return b"", [flaw]
