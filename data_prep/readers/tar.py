"""Members of a tar stream in bounded memory, with nothing lost in silence: the standard library's own reader takes a
damaged header for the end of the archive."""

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

from data_prep.readers.flaw import Flaw
from data_prep.readers.lines import MAX_RECORD_BYTES, too_long

_BLOCK = tarfile.BLOCKSIZE
_SKIP_BYTES = 1 << 20
_EXTENSIONS = (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK)
"""Headers that say something more about files, and of which nothing is needed."""
_PAX_PATH = re.compile(rb"(?:^|\n)\d+ path=([^\n]*)\n")
"""The path in an extended header, whose lines are `length key=value` (POSIX.1-2001, pax)."""


class Member(NamedTuple):
    """A file in an archive, or a link to one."""

    name: str
    """Its path."""
    content: bytes | Flaw | None
    """What it holds, nothing unless it was wanted; a Flaw if that is too long; None if it is a link to a file."""


def read_members(stream: io.BufferedReader, wanted: Callable[[str], bool]) -> Iterator[Member | Flaw]:
    """An archive's files and links in order, and a Flaw where a stretch is damaged or the end is missing."""
    members = _Members(stream, wanted)
    while True:
        try:
            member = members.next()
            if member is None:
                return
            yield member
        except Flaw as flaw:
            yield flaw


class _Members:
    def __init__(self, stream: io.BufferedReader, wanted: Callable[[str], bool]) -> None:
        self._stream = stream
        self._wanted = wanted
        self._following: tarfile.TarInfo | None = None
        """A header that was found behind damage, which is told first."""
        self._damage: Flaw | None = None
        """Set while the next header is being looked for."""
        self._ended = True
        """Whether the last block was an end mark. An empty file needs none."""

    def next(self) -> Member | None:
        """The next file; None at the end. Raises Flaw and can be called again then."""
        name = ""
        while header := self._header():
            if header.type == tarfile.GNUTYPE_LONGNAME:
                name = _text(self._content(header.size).rstrip(b"\0"))
            elif header.type == tarfile.XHDTYPE:
                path = _PAX_PATH.search(self._content(header.size))
                name = _text(path[1]) if path else name
            elif header.isreg():
                return self._member(name or header.name, header.size)
            elif header.issym() or header.islnk():
                return Member(name or header.name, None)
            elif header.type in _EXTENSIONS:
                self._skip(header.size)
            else:
                name = ""
        return None

    def _header(self) -> tarfile.TarInfo | None:
        """The next header: behind end marks, as archives may be joined, and behind what is none."""
        header, self._following = self._following, None
        self._ended = self._ended and not header
        while not header and (block := self._stream.read(_BLOCK)):
            if any(block):
                header, self._ended = self._parsed(block), False
            else:
                self._ended = True
            if self._damage and (header or self._ended):
                self._following = header
                raise self._told()
        if self._damage:
            raise self._told()
        if not header and not self._ended:
            raise self._cut_short("the archive ends without its end mark")
        return header

    def _parsed(self, block: bytes) -> tarfile.TarInfo | None:
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            if header.size < 0:
                raise tarfile.HeaderError("negative size")
        except tarfile.HeaderError as error:
            self._damage = self._damage or Flaw("damaged_archive", f"tar: {error}")
            self._damage.lost_bytes += len(block)
            return None
        return header

    def _told(self) -> Flaw:
        flaw, self._damage, self._ended = self._damage, None, True
        assert flaw
        return flaw

    def _cut_short(self, detail: str) -> Flaw:
        """The Flaw of a missing end: nobody knows how much that was, so it is taken to be as much as there is."""
        self._ended = True
        return Flaw("cut_short", detail, lost_bytes=self._stream.tell())

    def _member(self, name: str, size: int) -> Member:
        if self._wanted(name) and size <= MAX_RECORD_BYTES:
            return Member(name, self._content(size))
        self._skip(size)
        return Member(name, too_long(name) if self._wanted(name) else b"")

    def _content(self, size: int) -> bytes:
        content = self._stream.read(min(size, MAX_RECORD_BYTES))
        self._skip(size, len(content))
        return content

    def _skip(self, size: int, done: int = 0) -> None:
        """Pass over a file's content, of which `done` bytes are read, and what fills its last block."""
        rest = size + -size % _BLOCK - done
        while rest and (data := self._stream.read(min(rest, _SKIP_BYTES))):
            rest -= len(data)
        if rest:
            raise self._cut_short("the archive ends within a file")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
