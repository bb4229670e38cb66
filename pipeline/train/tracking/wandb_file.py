"""W&B's own file of a session, `run-ID.wandb`: a log of records in LevelDB's format."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK_BYTES = 32768
_FILE_HEADER_BYTES = 7
_HEADER = struct.Struct("<IHB")
"""Checksum of kind and data, length of the data, kind."""
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(content: bytes) -> Iterator[bytes]:
    """The records in a file's bytes, up to the first that is damaged; a last one that is not whole is left out."""
    whole = b""
    with suppress(_DamagedError):
        for kind, data in _parts(content):
            whole = data if kind in (_FULL, _FIRST) else whole + data
            if kind in (_FULL, _LAST):
                yield whole


def damage(content: bytes) -> int | None:
    """The byte where a file is not what W&B wrote; None if it is sound, be it that its end is missing."""
    try:
        for _ in _parts(content):
            pass
    except _DamagedError as error:
        return error.begin
    return None


class _DamagedError(Exception):
    """A part is not what its checksum says."""

    def __init__(self, begin: int) -> None:
        super().__init__(begin)
        self.begin = begin


def _parts(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and data of each part of a record that is whole."""
    begin = _FILE_HEADER_BYTES
    while begin + _HEADER.size <= len(content):
        room = _BLOCK_BYTES - begin % _BLOCK_BYTES
        if room < _HEADER.size:
            begin += room
            continue
        checksum, length, kind = _HEADER.unpack_from(content, begin)
        end = begin + _HEADER.size + length
        data = content[begin + _HEADER.size : end]
        if _HEADER.size + length > room or (end <= len(content) and checksum != _checksum(kind, data)):
            raise _DamagedError(begin)
        if end <= len(content):
            yield kind, data
        begin = end


def _checksum(kind: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(bytes([kind])))


def is_row(record: bytes) -> bool:
    """Whether a record is one of history."""
    found = Record.FromString(record)
    return bool(found.history.item or found.request.partial_history.item)


def num_rows(content: bytes) -> int:
    """How many rows a file holds."""
    return sum(map(is_row, records(content)))


def without_rows(content: bytes, number: int) -> bytes:
    """The same file without its first so many rows."""
    kept = []
    for record in records(content):
        if number and is_row(record):
            number -= 1
        else:
            kept.append(record)
    return written(content[:_FILE_HEADER_BYTES], kept)


def written(header: bytes, kept: Iterable[bytes]) -> bytes:
    """A file's bytes: its header and records."""
    content = bytearray(header)
    for record in kept:
        is_first = True
        while record or is_first:
            room = _BLOCK_BYTES - len(content) % _BLOCK_BYTES
            if room < _HEADER.size:
                content += bytes(room)
                continue
            data, record = record[: room - _HEADER.size], record[room - _HEADER.size :]
            kind = (_LAST if record == b"" else _MIDDLE) if not is_first else (_FULL if record == b"" else _FIRST)
            content += _HEADER.pack(_checksum(kind, data), len(data), kind) + data
            is_first = False
    return bytes(content)
