"""W&B's own file of a session, `run-ID.wandb`: a log of records in LevelDB's format."""

import struct
import zlib
from collections.abc import Iterable, Iterator

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK_BYTES = 32768
_FILE_HEADER_BYTES = 7
_HEADER = struct.Struct("<IHB")
"""Checksum of kind and data, length of the data, kind."""
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(content: bytes) -> Iterator[bytes]:
    """The records in a file's bytes; a last one that is not whole is left out."""
    begin, pieces = _FILE_HEADER_BYTES, b""
    while begin + _HEADER.size <= len(content):
        room = _BLOCK_BYTES - begin % _BLOCK_BYTES
        if room < _HEADER.size:
            begin += room
            continue
        _, length, kind = _HEADER.unpack_from(content, begin)
        begin += _HEADER.size
        data = content[begin : begin + length]
        pieces = data if kind in (_FULL, _FIRST) else pieces + data
        begin += length
        if kind in (_FULL, _LAST) and begin <= len(content):
            yield pieces


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
            content += _HEADER.pack(zlib.crc32(data, zlib.crc32(bytes([kind]))), len(data), kind) + data
            is_first = False
    return bytes(content)
