"""A stream by lines and blocks, of which some can be put back."""

import io
from collections.abc import Callable

from data_prep.readers.flaw import Flaw

_LINE_BYTES = 64 << 10


class Scanner:
    """A stream by lines and blocks, of which some can be put back."""

    def __init__(self, stream: io.BufferedReader) -> None:
        """Take a stream, whose flaws are raised where they lie."""
        self._stream = stream
        self._front = io.BytesIO()
        self._flaw: Flaw | None = None

    def line(self) -> bytes:
        """The next line, in pieces if it is very long; empty at the end."""
        line = self._front.readline()
        return line if line.endswith(b"\n") else line + self._more(self._stream.readline, _LINE_BYTES)

    def read(self, size: int) -> bytes:
        """A block; less at the end."""
        block = self._front.read(size)
        return block if len(block) == size else block + self._more(self._stream.read, size - len(block))

    def unread(self, data: bytes) -> None:
        """Put data back before what is to be read."""
        self._front = io.BytesIO(data + self._front.read())

    def peek(self) -> tuple[int, bytes]:
        """How many blank lines come next, which are taken, and the line behind them, which is not.

        That line is empty at the end, and before damage, which is told when it is read.
        """
        gap = 0
        try:
            while (line := self.line()).isspace():
                gap += 1
        except Flaw as flaw:
            self._flaw = flaw
            return gap, b""
        self.unread(line)
        return gap, line

    def cut_short(self, detail: str) -> Flaw:
        """The Flaw of a missing end: nobody knows how much that was, so it is taken to be as much as there is."""
        return Flaw("cut_short", detail, lost_bytes=self._stream.tell())

    def _more(self, read: Callable[[int], bytes], size: int) -> bytes:
        if self._flaw:
            flaw, self._flaw = self._flaw, None
            raise flaw
        return read(size)
