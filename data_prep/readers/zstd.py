"""Reading zstd streams so that one cut short is an error: the library's own reader ends such a stream in silence."""

import io
from collections.abc import Iterator
from typing import BinaryIO

import zstandard

_BLOCK_BYTES = 1 << 20


class ZstdStream(io.RawIOBase):
    """A file of zstd frames, decompressed. Raises EOFError where the last frame is not whole."""

    def __init__(self, file: BinaryIO) -> None:
        """Read from `file`, which stays the caller's to close."""
        self._blocks = _decompressed(file)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io passes a memoryview
        """Fill a buffer; 0 at the end."""
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _decompressed(file: BinaryIO) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    started = False
    while data := file.read(_BLOCK_BYTES):
        while data:
            if frame.eof:
                frame = decompressor.decompressobj()
            started = True
            yield frame.decompress(data)
            data = frame.unused_data if frame.eof else b""
    if started and not frame.eof:
        raise EOFError("the last zstd frame is not whole")
