"""Decompressing streams in bounded memory, so that damage is told and what lies before and behind it is still read."""

import io

from data_prep.readers.flaw import Flaw
from data_prep.readers.frames import ERRORS, Codec, Frame, GzipFrame

PIECE_BYTES = 32 << 10
"""Compressed bytes read at a time. Of damaged zstd, bz2 and xz up to so much before the damage is lost with it."""
COMPRESSION_RATIO = 4
"""Guess of how much larger the text of a compressed file is, where nothing better is known."""


class DecompressedStream(io.RawIOBase):
    """The content of a compressed file.

    Reading raises Flaw, once for each stretch that is damaged (`damaged_archive`; `too_much_memory` where a frame's
    window is larger than a worker may hold) and where the file ends within a frame (`cut_short`), after all that could
    be decoded before it. Reading on continues with the next frame that can be decoded.

    How much content a damaged stretch had is guessed from how well the rest is compressed. How much is missing behind
    the end nobody knows: it is taken to be as much as there is.
    """

    def __init__(self, file: io.BufferedIOBase, codec: Codec) -> None:
        """Read from `file`, which stays the caller's to close."""
        self._file = file
        self._codec = codec
        self._frame: Frame | None = None
        self._frame_at = 0
        self._input = b""
        self._fed = b""
        self._output = memoryview(b"")
        self._told: Flaw | None = None
        self._damage: Exception | None = None
        """Set while the next frame that can be decoded is being looked for."""
        self._good_at = 0
        """Up to where the file gave content."""
        self._stored = self._stored_lost = self._decoded = self._lost = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """How much content lies before the next byte, what was lost included."""
        return self._decoded + self._lost - len(self._output)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io passes a memoryview
        """Fill a buffer; 0 at the end."""
        while not self._output and not self._told and self._step():
            pass
        if self._told:
            flaw, self._told = self._told, None
            raise flaw
        size = min(len(buffer), len(self._output))
        buffer[:size] = self._output[:size]
        self._output = self._output[size:]
        return size

    def _step(self) -> bool:
        """Decode a little, or look on for a frame; False at the end."""
        data, self._input = self._input, b""
        if not (self._frame.more if self._frame else data and not self._damage):
            new = self._file.read(PIECE_BYTES)
            self._stored += len(new)
            data += new
            if not new and len(data) <= (len(self._codec.magic) if self._damage else 0):
                self._end()
                return False
        begun = self._frame is None
        if self._frame is None:
            data = self._frame_start(data)
            if not data:
                return True
            self._frame, self._frame_at = self._codec.begin(), self._stored - len(data)
            self._good_at = self._good_at if self._damage else self._frame_at
        if data:
            self._fed = data[1:] if begun else data
        self._decode(self._frame, data)
        return True

    def _end(self) -> None:
        if self._damage:
            self._tell_damage(self._stored)
        elif self._frame:
            missing = self.tell() or self._stored * COMPRESSION_RATIO
            self._tell("cut_short", "the file ends before its compressed data does", missing)
        self._frame = None

    def _frame_start(self, data: bytes) -> bytes:
        """Data from the next frame on: behind zeros (tapes and some tools pad with them), or behind the damage."""
        if not self._damage:
            return data.lstrip(b"\0")
        start = data.find(self._codec.magic)
        if start < 0:
            self._input = data[1 - len(self._codec.magic) :]
            return b""
        return data[start:]

    def _decode(self, frame: Frame, data: bytes) -> None:
        before = frame.copy() if isinstance(frame, GzipFrame) else None
        try:
            output = frame.step(data)
        except ERRORS as error:
            self._give_up(error, _decoded(before, data) if before else b"")
            return
        if self._damage and (output or frame.eof):
            self._tell_damage(self._frame_at)
        self._take(output)
        self._input = frame.rest
        if output or frame.eof:
            self._good_at = self._stored - len(self._input)
        if frame.eof:
            self._frame = None

    def _take(self, output: bytes) -> None:
        self._output = memoryview(output)
        self._decoded += len(output)

    def _give_up(self, error: Exception, output: bytes) -> None:
        """Look for a frame in what was fed last, from now on; what looked like one when looking was none."""
        self._frame, self._input = None, self._fed
        if not self._damage:
            self._damage = error
            self._take(output)

    def _tell_damage(self, end: int) -> None:
        """Tell of the damage up to a place in the file."""
        lost = end - self._good_at
        whole = self._good_at - self._stored_lost
        ratio = self._decoded / whole if self._decoded and whole > 0 else COMPRESSION_RATIO
        self._stored_lost += lost
        said = f"{self._codec.suffix[1:]}: {self._damage}; {lost} bytes of the file from {self._good_at} on are lost"
        reason = "too_much_memory" if "memory" in str(self._damage).lower() else "damaged_archive"
        self._damage = None
        self._tell(reason, said, int(lost * ratio) + 1)

    def _tell(self, reason: str, detail: str, lost_bytes: int) -> None:
        self._lost += lost_bytes
        self._told = Flaw(reason, detail, lost_bytes=lost_bytes)


def _decoded(frame: GzipFrame, data: bytes) -> bytes:
    """What can be decoded of data that holds damage: byte by byte, as an error takes all output of its call along."""
    output = bytearray()
    try:
        for at in range(len(data)):
            output += frame.step(data[at : at + 1])
    except ERRORS:
        pass
    return bytes(output)
