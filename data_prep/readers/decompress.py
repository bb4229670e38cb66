"""Decompressing streams in bounded memory, so that damage is told and what lies before and behind it is still read."""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import zstandard

from data_prep.readers.flaw import Flaw

PIECE_BYTES = 32 << 10
"""Compressed bytes decoded at a time. Of damaged zstd, bz2 and xz up to so much before the damage is lost with it."""
_MAX_WINDOW_BYTES = 1 << 31
"""zstd's own bound: what `zstd --long=31` wrote can be read, in as much memory."""
_ERRORS = (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError, ValueError)
"""What decoders raise on bad data. Only decoding is tried with them, never reading."""


class Frame(Protocol):
    """One compressed unit: a gzip member, a zstd frame, a bz2 or xz stream. A file is any number of them."""

    @property
    def eof(self) -> bool:
        """Whether its end was seen."""

    @property
    def unused_data(self) -> bytes:
        """What was given to it and lies behind its end."""

    def decompress(self, data: bytes, /) -> bytes:
        """The next stretch, decompressed."""


@dataclass(frozen=True)
class Codec:
    """A way of compressing."""

    suffix: str
    """Ending of file names."""
    magic: bytes
    """What each frame begins with."""
    begin: Callable[[], Frame]
    """Opens a frame."""


def _zstd_frame() -> Frame:
    return cast(Frame, zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).decompressobj())


_GZIP_WINDOW = 16 + zlib.MAX_WBITS
CODECS = (
    Codec(".gz", b"\x1f\x8b\x08", lambda: zlib.decompressobj(_GZIP_WINDOW)),
    Codec(".zst", b"\x28\xb5\x2f\xfd", _zstd_frame),
    Codec(".bz2", b"BZh", bz2.BZ2Decompressor),
    Codec(".xz", b"\xfd7zXZ\0", lzma.LZMADecompressor),
)
SUFFIXES = tuple(codec.suffix for codec in CODECS)


def codec_of(name: str, beginning: bytes) -> Codec | None:
    """The codec that a file's name tells, or else its first bytes."""
    for codec in CODECS:
        if name.endswith(codec.suffix):
            return codec
    return next((codec for codec in CODECS if beginning.startswith(codec.magic)), None)


class DecompressedStream(io.RawIOBase):
    """The content of a compressed file.

    Reading raises Flaw, once, where the data is damaged (`damaged_archive`) or ends within a frame (`cut_short`), after
    all that could be decoded before it. Reading on continues with the next frame that can be decoded.
    """

    def __init__(self, file: io.BufferedIOBase, codec: Codec) -> None:
        """Read from `file`, which stays the caller's to close."""
        self._file = file
        self._codec = codec
        self._frame: Frame | None = None
        self._input = b""
        self._output = memoryview(b"")
        self._flaw: Flaw | None = None
        self._lost = False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io passes a memoryview
        """Fill a buffer; 0 at the end."""
        while not self._output:
            if self._flaw:
                flaw, self._flaw = self._flaw, None
                raise flaw
            block = self._next_block()
            if block is None:
                return 0
            self._output = memoryview(block)
        size = min(len(buffer), len(self._output))
        buffer[:size] = self._output[:size]
        self._output = self._output[size:]
        return size

    def _next_block(self) -> bytes | None:
        """Some decompressed bytes, maybe none yet; None at the end of the file."""
        data = self._take()
        if not data:
            self._end()
            return None
        begun = self._frame is None
        if self._frame is None:
            data = self._frame_start(data)
            if not data:
                return b""
            self._frame = self._codec.begin()
        return self._decode(self._frame, data, begun)

    def _take(self) -> bytes:
        """Compressed bytes: what is left over, and always something new when looking for a frame."""
        if self._input and not self._lost:
            data, self._input = self._input, b""
            return data
        new = self._file.read(PIECE_BYTES)
        data, self._input = self._input + new, b""
        return data if new or len(data) > len(self._codec.magic) else b""

    def _end(self) -> None:
        if self._frame is not None:
            self._frame = None
            raise Flaw("cut_short", "the file ends before its compressed data does")

    def _frame_start(self, data: bytes) -> bytes:
        """Data from the next frame on: behind zeros (tapes and some tools pad with them), or behind the damage."""
        if not self._lost:
            return data.lstrip(b"\0")
        start = data.find(self._codec.magic)
        if start < 0:
            self._input = data[1 - len(self._codec.magic) :]
            return b""
        return data[start:]

    def _decode(self, frame: Frame, data: bytes, begun: bool) -> bytes:
        before = frame.copy() if hasattr(frame, "copy") else None
        try:
            output = frame.decompress(data)
        except _ERRORS as error:
            return self._give_up(data[1:] if begun else data, error, _decoded(before, data) if before else b"")
        self._lost = False
        if frame.eof:
            self._input, self._frame = frame.unused_data, None
        return output

    def _give_up(self, data: bytes, error: Exception, output: bytes) -> bytes:
        """Note the damage and look for a frame in `data`; what looked like one when lost was none."""
        self._frame, self._input = None, data
        if self._lost:
            return b""
        self._lost = True
        self._flaw = Flaw("damaged_archive", f"{self._codec.suffix[1:]}: {error}")
        return output


def _decoded(frame: Frame, data: bytes) -> bytes:
    """What can be decoded of data that holds damage: byte by byte, as an error takes all output of its call along."""
    output = bytearray()
    try:
        for at in range(len(data)):
            output += frame.decompress(data[at : at + 1])
    except _ERRORS:
        pass
    return bytes(output)
