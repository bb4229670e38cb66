"""Lines of a stream, in bounded memory."""

import io
from collections.abc import Iterator

from data_prep.readers.flaw import Flaw

MAX_RECORD_BYTES = 16 << 20
"""A longer line, text or member of an archive is no record: a worker of 1 GiB holds several copies of a text, of up to
four bytes for each character."""


def read_lines(stream: io.BufferedReader) -> Iterator[bytes | Flaw]:
    """The lines with their ends. In place of a line that is too long, and where the stream is damaged, a Flaw."""
    while True:
        try:
            line = stream.readline(MAX_RECORD_BYTES + 1)
            if len(line) > MAX_RECORD_BYTES:
                _skip_line(stream, line)
                yield too_long("a line")
            elif line:
                yield line
            else:
                return
        except Flaw as flaw:
            yield flaw


def too_long(what: str) -> Flaw:
    """The Flaw of something that exceeds the bound."""
    return Flaw("too_long", f"{what} of more than {MAX_RECORD_BYTES >> 20} MiB")


def decode_text(content: bytes) -> str:
    """Plain text as a string; bytes that are not UTF-8 become U+FFFD, which filters can count."""
    return content.decode("utf-8-sig", errors="replace")


def _skip_line(stream: io.BufferedReader, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = stream.readline(1 << 20)
