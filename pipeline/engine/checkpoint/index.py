"""The index of a checkpoint: which tensors it holds, in which pieces, in which files; written last, read first.

{"optimizer": "AdamW", "step_counts": {name: updates}, "loss_scale": {…} in fp16, "files": [name],
 "tensors": {"master/name": {"shape", "dtype", "crc32", "pieces": [[file, start, length]]}}}

A piece of some columns of a matrix has two numbers more: the first column and how many; `start` counts among theirs.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.engine.checkpoint.checksum import combined
from pipeline.engine.checkpoint.columns import Columns, end_in_whole
from pipeline.errors import CheckpointError

INDEX_NAME = "index.json"


class Written(NamedTuple):
    """A piece of a tensor as a rank wrote it."""

    key: str
    """Kind and name of the tensor."""
    shape: tuple[int, ...]
    """Shape of the whole tensor."""
    dtype: str
    """Type, as safetensors names it."""
    file: str
    """File inside the checkpoint."""
    start: int
    """First element, of the whole tensor laid out flat."""
    length: int
    """Elements."""
    num_bytes: int
    """Size."""
    crc32: int
    """CRC-32 of its bytes, spread as they are in the whole tensor."""
    columns: Columns | None = None
    """Whose elements they are, where a matrix is divided by columns."""


class Piece(NamedTuple):
    """A stretch of a tensor in a file."""

    file: str
    start: int
    length: int
    columns: Columns | None = None
    """Whose elements they are, where the matrix is divided by columns."""


@dataclass(frozen=True)
class TensorRecord:
    """One tensor of a checkpoint."""

    shape: tuple[int, ...]
    dtype: str
    crc32: int
    pieces: tuple[Piece, ...]

    @property
    def length(self) -> int:
        """Elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Index:
    """All tensors of a checkpoint."""

    optimizer: str
    """Class of the optimizer that the moments are of."""
    tensors: dict[str, TensorRecord]
    """By kind and name."""
    step_counts: dict[str, int] = field(default_factory=dict)
    """Updates made of each parameter, which correct Adam's moments."""
    loss_scale: dict[str, float] | None = None
    """In fp16, where the scale of the loss stands."""

    def tensor(self, key: str) -> TensorRecord:
        """A tensor's record. Raises CheckpointError if there is none."""
        if key not in self.tensors:
            raise CheckpointError(f"the checkpoint holds no {key}; it is of another model or optimizer")
        return self.tensors[key]

    def stretches(
        self, key: str, start: int, length: int, columns: Columns | None = None
    ) -> Iterator[tuple[Piece, int, int]]:
        """Which pieces cover a stretch of a tensor or of such columns of it: with the first element and how many."""
        for piece in self.tensor(key).pieces:
            begin, end = max(start, piece.start), min(start + length, piece.start + piece.length)
            if piece.columns == columns and begin < end:
                yield piece, begin, end - begin

    @property
    def files(self) -> set[str]:
        """Files that hold its pieces."""
        return {piece.file for one in self.tensors.values() for piece in one.pieces}

    def names(self, kind: str) -> dict[str, TensorRecord]:
        """Tensors of one kind, by their name."""
        prefix = f"{kind}/"
        return {key.removeprefix(prefix): one for key, one in self.tensors.items() if key.startswith(prefix)}

    def to_bytes(self) -> bytes:
        """As a file."""
        files = sorted(self.files)
        numbers = {name: number for number, name in enumerate(files)}
        tensors = {
            key: {"shape": one.shape, "dtype": one.dtype, "crc32": one.crc32,
                  "pieces": [(numbers[piece.file], *piece[1:3], *(piece.columns or ())) for piece in one.pieces]}
            for key, one in sorted(self.tensors.items())
        }  # fmt: skip
        body = {"optimizer": self.optimizer, "step_counts": self.step_counts, "loss_scale": self.loss_scale,
                "files": files, "tensors": tensors}  # fmt: skip
        return json.dumps(body).encode()


def read_index(folder: Path) -> Index:
    """The index of a checkpoint whose files are verified. Raises CheckpointError."""
    try:
        body: dict[str, Any] = json.loads((folder / INDEX_NAME).read_bytes())
        files = body["files"]
        tensors = {
            key: TensorRecord(tuple(one["shape"]), one["dtype"], one["crc32"],
                              tuple(Piece(files[number], start, length, Columns(*columns) if columns else None)
                                    for number, start, length, *columns in one["pieces"]))
            for key, one in body["tensors"].items()
        }  # fmt: skip
        return Index(body["optimizer"], tensors, body["step_counts"], body.get("loss_scale"))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(f"{folder.name}: {INDEX_NAME} cannot be read ({error}); use an older one") from error


def index_of(
    optimizer: str,
    written: Iterable[Written],
    step_counts: dict[str, int],
    loss_scale: dict[str, float] | None = None,
) -> Index:
    """The index of what all ranks wrote.

    Raises:
        CheckpointError: The pieces of a tensor do not cover it, or overlap: it would not be whole.
    """
    by_key: dict[str, list[Written]] = defaultdict(list)
    for one in written:
        by_key[one.key].append(one)
    tensors = {key: _record(sorted(pieces, key=_end)) for key, pieces in by_key.items()}
    return Index(optimizer, tensors, step_counts, loss_scale)


def _record(pieces: Sequence[Written]) -> TensorRecord:
    first = pieces[0]
    require_whole(first.key, first.shape, [(piece.start, piece.length, piece.columns) for piece in pieces])
    item_bytes = first.num_bytes // max(1, first.length)
    ends = [0, *(_end(piece) * item_bytes for piece in pieces)]
    crc = combined((piece.crc32, end - before) for piece, (before, end) in zip(pieces, pairwise(ends), strict=True))
    found = tuple(Piece(piece.file, piece.start, piece.length, piece.columns) for piece in pieces)
    return TensorRecord(first.shape, first.dtype, crc, found)


def _end(piece: Written) -> int:
    return end_in_whole(piece.start, piece.length, piece.columns, piece.shape)


def require_whole(key: str, shape: Sequence[int], pieces: Iterable[tuple[int, int, Columns | None]]) -> None:
    """Raises CheckpointError unless pieces (first element, number, of which columns) are a whole tensor."""
    row = shape[-1] if shape else 1
    parts: dict[Columns, list[tuple[int, int]]] = defaultdict(list)
    for start, length, columns in pieces:
        parts[columns or Columns(0, row)].append((start, length))
    _require_filled(key, "column", row, sorted(parts))
    for columns, stretches in parts.items():
        size = math.prod(shape) if columns.number == row else math.prod(shape) // row * columns.number
        _require_filled(key, "element", size, sorted(stretches))


def _require_filled(key: str, unit: str, size: int, stretches: Sequence[tuple[int, int]]) -> None:
    end = 0
    for start, length in stretches:
        if start != end:
            raise CheckpointError(f"{key}: its pieces {'overlap' if start < end else 'have a gap'} at {unit} {end}")
        end += length
    if end != size:
        raise CheckpointError(f"{key}: its pieces hold {end} of {size} {unit}s")
