"""Records of web archives: WARC (ISO 28500, and so WET) and ARC 1.0 (Burner and Kahle 1996).

The framing is our own, as a library that stops at the first bad record, or takes a cut one for whole, loses pages in
silence. After a bad record reading goes on at the next line that begins one.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from data_prep.readers.flaw import Flaw
from data_prep.readers.scanner import Scanner

HTTP_HEAD_BYTES = 64 << 10
"""What a block may hold beside the page."""
_WARC_LINE = rb"WARC/\d\.\d+\r?$"
_ARC_LINE = rb"(\S+:.*) (\S+) (\d{14}) (.*) (\d+)\r?$"
"""URL, which may hold spaces, IP address, date, content type and length of an ARC record."""
_ARC = re.compile(_ARC_LINE, re.MULTILINE)
_BEGINNING = re.compile(rb"^(?:" + _WARC_LINE + rb"|" + _ARC_LINE + rb")", re.MULTILINE)
_NUMBER = re.compile(r"[0-9]{1,18}")
_MAX_HEAD_BYTES = 256 << 10
_GAP_LINES = 2
"""Blank lines behind a block of WARC. Where they are, the block is as long as it should be, whatever follows."""
_ARC_KINDS = {"filedesc": "warcinfo", "dns": "dns"}


@dataclass(frozen=True, slots=True)
class Record:
    """One record."""

    kind: str
    """WARC-Type, in lower case; of an ARC record what it would be in WARC."""
    url: str
    """What was fetched."""
    date: str
    """When, as 2014-02-16T05:02:21Z."""
    content_type: str
    """Of the block; of an ARC record, of the page in it."""
    length: int
    """Bytes of the block."""
    block: bytes
    """The block, or its beginning if it is longer than was asked for."""


@dataclass(frozen=True, slots=True)
class _Head:
    kind: str
    url: str
    date: str
    content_type: str
    length: int | None


def read_records(stream: io.BufferedReader, max_page_bytes: int) -> Iterator[Record | Flaw]:
    """An archive's records in order. Of a block no more than a page of `max_page_bytes` and its HTTP head is held."""
    records = _Records(Scanner(stream), max_page_bytes + HTTP_HEAD_BYTES)
    told: Flaw | None = None
    while True:
        record, flaw = _next(records)
        if told:
            told.lost_bytes += records.passed
            yield told
        told = flaw
        if record:
            yield record
        elif not flaw:
            return


def _next(records: "_Records") -> tuple[Record | None, Flaw | None]:
    """The next record or flaw; neither at the end. How much lies behind a flaw is known once the next one is found."""
    try:
        return records.next(), None
    except Flaw as flaw:
        return None, flaw


class _Records:
    def __init__(self, scanner: "Scanner", max_bytes: int) -> None:
        self._scanner = scanner
        self._max_bytes = max_bytes
        self._lost = False
        self.passed = 0
        """Bytes that the last call passed over in looking for a record."""

    def next(self) -> Record | None:
        """The next record; None at the end. Raises Flaw and can be called again then."""
        lost, self._lost = self._lost, True  # whatever is raised below, the next record is to be looked for
        head = self._head(lost)
        if head is None:
            return None
        if head.length is None:
            raise Flaw("bad_length", f"{head.url} does not say its length")
        block = self._block(head.url, head.length)
        self._lost = False
        return Record(head.kind, head.url, head.date, head.content_type, head.length, block)

    def _head(self, lost: bool) -> _Head | None:
        """The next record's head, which must be what comes next unless we are lost."""
        self.passed = 0
        while line := self._scanner.line():
            if line.startswith(b"WARC/") and _BEGINNING.match(line):
                return _warc_head(self._scanner)
            if arc := _ARC.match(line):
                return _arc_head(arc)
            if not lost and line.strip():
                self._scanner.unread(line)
                raise Flaw("bad_record", f"no record begins with {line[:40]!r}")
            self.passed += 0 if line.isspace() else len(line)
        return None

    def _block(self, url: str, length: int) -> bytes:
        """A record's block; checks that the archive or another record follows it."""
        block = self._scanner.read(min(length, self._max_bytes))
        whole = len(block) == length or (len(block) == self._max_bytes and self._skip(length - len(block)))
        gap, following = self._scanner.peek()
        if whole and (gap >= _GAP_LINES or not following or _BEGINNING.match(following)):
            return block
        inner = _BEGINNING.search(block)
        if inner:
            self._scanner.unread(block[inner.start() :])
        if inner or whole or following:
            raise Flaw("bad_length", f"{url} is not of the length it says, {length} bytes")
        raise self._scanner.cut_short(f"the archive ends within {url}")

    def _skip(self, length: int) -> bool:
        """Pass over the rest of a long block; whether it is as long as that, and no record begins in it."""
        while length > 0 and (line := self._scanner.line()):
            if _BEGINNING.match(line):
                self._scanner.unread(line)
                return False
            length -= len(line)
        return length <= 0


def _warc_head(scanner: Scanner) -> _Head:
    """The named fields behind a WARC record's first line."""
    fields, size = dict[str, str](), 0
    while (line := scanner.line()).strip():
        size += len(line)
        if size > _MAX_HEAD_BYTES:
            raise Flaw("bad_record", f"its head is longer than {_MAX_HEAD_BYTES} bytes")
        name, _, value = line.decode("utf-8", "replace").partition(":")
        fields[name.strip().lower()] = value.strip()
    if not line:
        raise scanner.cut_short("the archive ends within a record's head")
    length = fields.get("content-length", "")
    return _Head(
        fields.get("warc-type", "").lower(),
        fields.get("warc-target-uri", "").strip("<>"),  # older wget wrote them
        fields.get("warc-date", ""),
        fields.get("content-type", ""),
        int(length) if _NUMBER.fullmatch(length) else None,
    )


def _arc_head(line: "re.Match[bytes]") -> _Head:
    """The fields of an ARC record's line."""
    url, _, date, content_type, length = (part.decode("utf-8", "replace") for part in line.groups())
    kind = _ARC_KINDS.get(url.partition(":")[0], "response")
    clock = f"{date[:4]}-{date[4:6]}-{date[6:8]}T{date[8:10]}:{date[10:12]}:{date[12:]}Z"
    return _Head(kind, url, clock, content_type, int(length))
