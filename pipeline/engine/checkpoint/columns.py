"""Pieces of a matrix that lies divided by columns: how tensor parallelism cuts what goes back into the residual stream.

Elements of such a piece are counted in the matrix of its own columns, laid out flat: so a rank's stretch of its part is
one piece, though in the whole matrix it is as many stretches as there are rows.
"""

import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from pipeline.engine.checkpoint.checksum import combined


class Columns(NamedTuple):
    """Some columns of a matrix, side by side."""

    first: int
    number: int


def end_in_whole(start: int, length: int, columns: Columns | None, shape: Sequence[int]) -> int:
    """Elements of the whole tensor, laid out flat, up to the last one of a piece."""
    if columns is None or not length:
        return start + length
    row, column = divmod(start + length - 1, columns.number)
    return row * shape[-1] + columns.first + column + 1


def spread_crc32(data: memoryview, item_bytes: int, start: int, columns: Columns | None, shape: Sequence[int]) -> int:
    """What a piece adds to the CRC-32 of the whole tensor, as if its stretches had zeros between them.

    Args:
        data: Its bytes.
        item_bytes: Bytes of an element.
        start: Its first element.
        columns: Whose elements they are; None where it is one stretch, whose CRC-32 this is.
        shape: Of the whole tensor.
    """
    if columns is None or not data:
        return zlib.crc32(data)
    end = start + len(data) // item_bytes
    rows = range((start // columns.number + 1) * columns.number, end, columns.number)
    parts, before = [], 0
    for first, last in pairwise([start, *rows, end]):
        behind = end_in_whole(first, last - first, columns, shape)
        stretch = data[(first - start) * item_bytes : (last - start) * item_bytes]
        parts.append((zlib.crc32(stretch), (behind - before) * item_bytes))
        before = behind
    return combined(parts)
