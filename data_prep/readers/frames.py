"""Ways of compressing, each with a decoder whose every step gives a bounded amount, however much the data may hold."""

import bz2
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import zstandard

STEP_BYTES = 4 << 20
"""A step gives no more; of zstd five times as much."""
MAX_MEMORY_BYTES = 1 << 29
"""A frame that wants a larger window is refused: a worker has to do with 1 GiB."""
ERRORS = (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError, ValueError)
"""What decoders raise on bad data. Only decoding is tried with them, never reading."""
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_BZ2_SIGN = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
"""Behind the size of blocks a block begins, or the end if there is none."""
_ZSTD_FED_BYTES = 512
"""zstd has no bound on its output: a block of 4 bytes may hold 128 KiB."""


class Frame(Protocol):
    """One compressed unit: a gzip member, a zstd frame, a bz2 or xz stream. A file is any number of them."""

    @property
    def eof(self) -> bool:
        """Whether its end was seen."""

    @property
    def more(self) -> bool:
        """Whether the next step needs nothing new, only `rest`, which may be empty."""

    @property
    def rest(self) -> bytes:
        """What the last step was given and did not use."""

    def step(self, data: bytes) -> bytes:
        """The next stretch, decompressed."""


class GzipFrame:
    """A gzip member."""

    def __init__(self) -> None:
        """Begin it."""
        self._decoder = zlib.decompressobj(_GZIP_WINDOW)
        self.eof = False
        self.more = False
        self.rest = b""

    def step(self, data: bytes) -> bytes:
        """The next stretch."""
        output = self._decoder.decompress(data, STEP_BYTES)
        self.eof = self._decoder.eof
        self.rest = self._decoder.unused_data if self.eof else self._decoder.unconsumed_tail
        self.more = not self.eof and len(output) == STEP_BYTES
        return output

    def copy(self) -> "GzipFrame":
        """A frame that goes on by itself from here."""
        other = GzipFrame()
        other._decoder = self._decoder.copy()
        return other


class _ZstdFrame:
    def __init__(self) -> None:
        self._decoder = zstandard.ZstdDecompressor(max_window_size=MAX_MEMORY_BYTES).decompressobj()
        self.eof = False
        self.more = False
        self.rest = b""

    def step(self, data: bytes) -> bytes:
        output, at = bytearray(), 0
        while at < len(data) and len(output) < STEP_BYTES and not self.eof:
            output += self._decoder.decompress(data[at : at + _ZSTD_FED_BYTES])
            self.eof = self._decoder.eof
            at += _ZSTD_FED_BYTES
        self.rest = self._decoder.unused_data + data[at:]
        self.more = not self.eof and bool(self.rest)
        return bytes(output)


class _HoldingFrame:
    """bz2 and xz: their decoders hold what they did not use."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self.eof = False
        self.more = False
        self.rest = b""

    def step(self, data: bytes) -> bytes:
        output: bytes = self._decoder.decompress(data, STEP_BYTES)
        self.eof = self._decoder.eof
        self.rest = self._decoder.unused_data
        self.more = not self.eof and not self._decoder.needs_input
        return output


@dataclass(frozen=True)
class Codec:
    """A way of compressing."""

    suffix: str
    """Ending of file names."""
    magic: bytes
    """What each frame begins with."""
    begin: Callable[[], Frame]
    """Opens a frame."""
    sign: re.Pattern[bytes] | None = None
    """What a file begins with whose name says nothing, where that is more than the magic: a text may begin with it."""

    def is_sign(self, beginning: bytes) -> bool:
        """Whether a file that begins so is compressed in this way."""
        return bool(self.sign.match(beginning)) if self.sign else beginning.startswith(self.magic)


CODECS = (
    Codec(".gz", b"\x1f\x8b\x08", GzipFrame),
    Codec(".zst", b"\x28\xb5\x2f\xfd", _ZstdFrame),
    Codec(".bz2", b"BZh", lambda: _HoldingFrame(bz2.BZ2Decompressor()), _BZ2_SIGN),
    Codec(".xz", b"\xfd7zXZ\0", lambda: _HoldingFrame(lzma.LZMADecompressor(memlimit=MAX_MEMORY_BYTES))),
)
SUFFIXES = tuple(codec.suffix for codec in CODECS)


def codec_of(name: str, beginning: bytes) -> Codec | None:
    """The codec that a file's name tells, or else its first bytes."""
    for codec in CODECS:
        if name.endswith(codec.suffix):
            return codec
    return next((codec for codec in CODECS if codec.is_sign(beginning)), None)
