"""Parsing JSON: single lines fast, and streams of values or the elements of an array without holding the whole."""

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

from data_prep.readers.flaw import Flaw
from data_prep.readers.lines import MAX_RECORD_BYTES, too_long
from data_prep.readers.streams import pass_over

_READ_BYTES = 1 << 16
_SPACE = re.compile(r"\s*")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_NUMBER_GOES_ON = "0123456789.eE+-"
"""Or may go on, as the empty string at the end of what is read is in it too."""
_DECODER = json.JSONDecoder()


def parse_line(line: bytes) -> Any:
    """The value of a line, or a Flaw.

    What strict parsers refuse and datasets hold is accepted: a byte order mark, `NaN`, huge numbers, and halves of
    surrogate pairs, which become U+FFFD.
    """
    try:
        return orjson.loads(line)
    except ValueError:
        return _parse_leniently(line)


def _parse_leniently(line: bytes) -> Any:
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Flaw("bad_encoding", str(error))
    try:
        return _whole(json.loads(text), text)
    except (ValueError, RecursionError) as error:
        return Flaw("broken_json", str(error))


def _whole(value: Any, source: str) -> Any:
    """A value parsed from `source`, with halves of surrogate pairs replaced: they cannot be written as UTF-8."""
    if not _SURROGATE_ESCAPE.search(source):
        return value
    units = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
    return json.loads(units.decode("utf-16-le", "replace"))


def begins_with_value(content: bytes) -> bool:
    """Whether a value is at the beginning, whatever follows it."""
    try:
        _DECODER.raw_decode(content.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return False
    return True


def read_values(stream: io.BufferedReader) -> Iterator[Any]:
    """The values of a stream, an array's elements singly. A Flaw is one of them; what cannot be parsed is the last."""
    text = _Text(stream)
    try:
        while text.peek():
            inside = text.take("[")
            while not (inside and text.take("]")):
                yield text.value()
                if not inside:
                    break
                if not text.take(",") and text.peek() != "]":
                    raise text.broken("expected , or ]")
    except Flaw as flaw:
        yield Flaw(flaw.reason, flaw.detail, lost_bytes=flaw.lost_bytes + text.pass_over())


class _Text:
    """What is read of a stream and not parsed yet."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._text = ""
        self._at = 0
        self._ended = False
        self._flaw: Flaw | None = None

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing too
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more()

    def take(self, sign: str) -> bool:
        """Pass over `sign` if it is next."""
        found = self.peek() == sign
        self._at += found
        return found

    def value(self) -> Any:
        """The next value, or a Flaw if its bytes are not UTF-8. Raises Flaw if it cannot be parsed."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                if self._ended or self._text[end : end + 1] not in _NUMBER_GOES_ON:
                    return self._taken(value, end)
            except (ValueError, RecursionError) as error:  # broken, or not all there yet
                if self._ended or isinstance(error, RecursionError):
                    raise self.broken(str(error)) from error
            if len(self._text) - self._at > MAX_RECORD_BYTES:
                raise too_long("a JSON value")
            self._more()

    def pass_over(self) -> int:
        """Leave all that is not parsed yet; how many bytes that is."""
        return len(self._text[self._at :].encode("utf-8", "surrogateescape")) + pass_over(self._stream)

    def broken(self, what: str) -> Flaw:
        """The Flaw of what cannot be parsed."""
        return Flaw("broken_json", f"{what}; the rest of the file is not read")

    def _taken(self, value: Any, end: int) -> Any:
        source, self._at = self._text[self._at : end], end
        try:
            source.encode("utf-8")
        except UnicodeEncodeError:  # undecodable bytes came through as surrogates
            return Flaw("bad_encoding", "bytes that are not UTF-8")
        return _whole(value, source)

    def _more(self) -> None:
        """Read on; more the longer the value is, so that trying again costs no more than twice its length."""
        rest = self._text[self._at :]
        data = self._read(max(_READ_BYTES, len(rest)))
        self._text, self._at = rest + self._decode(data, self._ended), 0

    def _read(self, size: int) -> bytes:
        """So many bytes; less at the end and before a flaw, which is raised by the next call."""
        if self._flaw:
            raise self._flaw
        data = b""
        try:
            while len(data) < size and not self._ended:
                new = self._stream.read1(size - len(data))
                data, self._ended = data + new, not new
        except Flaw as flaw:
            self._flaw = flaw
        return data
