"""What W&B wrote into a run folder: the rows in its `.wandb` files, which `wandb sync` sends."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK_BYTES = 32768
_FILE_HEADER_BYTES, _RECORD_HEADER_BYTES = 7, 7
_FULL, _FIRST, _LAST = 1, 2, 4


def rows_in_files(run: Path) -> list[dict[str, Any]]:
    """The rows of all sessions, oldest first."""
    files = sorted(run.glob("wandb/*run-*/*.wandb"), key=lambda path: path.parent.name.rpartition("run-")[2])
    return [row for file in files for row in _rows(file)]


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    for content in _records(file.read_bytes()):
        record = Record.FromString(content)
        items = record.history.item or record.request.partial_history.item
        if items:
            yield {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def _records(content: bytes) -> Iterator[bytes]:
    """Records of LevelDB's log format; a last one that is not whole is left out."""
    begin, pieces = _FILE_HEADER_BYTES, b""
    while begin + _RECORD_HEADER_BYTES <= len(content):
        room = _BLOCK_BYTES - begin % _BLOCK_BYTES
        if room < _RECORD_HEADER_BYTES:
            begin += room
            continue
        length, kind = int.from_bytes(content[begin + 4 : begin + 6], "little"), content[begin + 6]
        begin += _RECORD_HEADER_BYTES
        pieces = (
            content[begin : begin + length] if kind in (_FULL, _FIRST) else pieces + content[begin : begin + length]
        )
        begin += length
        if kind in (_FULL, _LAST) and begin <= len(content):
            yield pieces
