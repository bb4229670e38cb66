"""Files of tensors: safetensors, hashed while they are written, read in stretches.

The format is a header of JSON and the tensors' bytes end to end (https://github.com/huggingface/safetensors), so a
file is written from memory without a second copy, and nothing in it can act when it is read.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pipeline.engine.checkpoint.columns import Columns, spread_crc32
from pipeline.engine.checkpoint.commit import FileRecord
from pipeline.engine.checkpoint.index import Index, Written
from pipeline.errors import CheckpointError

DTYPES = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""Types by safetensors' names."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT = 64
_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class Part:
    """What a rank saves of one tensor."""

    key: str
    shape: tuple[int, ...]
    start: int
    length: int
    dtype: torch.dtype
    values: Callable[[], torch.Tensor]
    """Its values on the CPU, 1-D, of that type."""
    columns: Columns | None = None
    """Whose elements they are, where a matrix is divided by columns."""

    @property
    def num_bytes(self) -> int:
        """Size."""
        return self.length * self.dtype.itemsize


def write_tensors(folder: Path, name: str, parts: Sequence[Part]) -> tuple[FileRecord, list[Written]]:
    """Write one file, synced; what it is, and the pieces in it. Raises OSError.

    Args:
        folder: The checkpoint's folder.
        name: The file's name in it.
        parts: What goes into it; those of wide types first, so that each lies at a multiple of its type's size.
    """
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    digest, size, written = hashlib.sha256(), 0, []
    with open(path, "wb", buffering=0) as file:
        size += _write(file, digest, _header(parts))
        for part in parts:
            data = as_bytes(part.values())
            size += _write(file, digest, data)
            crc = spread_crc32(data, part.dtype.itemsize, part.start, part.columns, part.shape)
            written.append(Written(part.key, part.shape, _NAMES[part.dtype], name, part.start, part.length,
                                   part.num_bytes, crc, part.columns))  # fmt: skip
        os.fsync(file.fileno())
    return FileRecord(name, size, digest.hexdigest()), written


def as_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous 1-D tensor on the CPU, not copied."""
    return memoryview(tensor.detach().view(torch.uint8).numpy()) if tensor.numel() else memoryview(b"")


def _header(parts: Sequence[Part]) -> bytes:
    entries, offset = {}, 0
    for part in parts:
        end = offset + part.num_bytes
        entries[part.key] = {"dtype": _NAMES[part.dtype], "shape": [part.length], "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _write(file: Any, digest: Any, data: bytes | memoryview) -> int:
    """Write all of it, block by block: an unbuffered file may take less than it is given."""
    view = memoryview(data)
    for begin in range(0, len(view), _BLOCK_BYTES):
        block = view[begin : begin + _BLOCK_BYTES]
        digest.update(block)
        while block:
            block = block[file.write(block) :]
    return len(view)


class TensorReader:
    """Reads stretches of tensors of one checkpoint, whose files are verified."""

    def __init__(self, folder: Path, index: Index) -> None:
        """Nothing is opened yet."""
        self._folder, self._index = folder, index
        self._files: dict[str, Any] = {}

    def read_into(self, key: str, start: int, target: torch.Tensor, columns: Columns | None = None) -> None:
        """Fill a 1-D tensor with a stretch of a tensor, or of some columns of it, converted to its type.

        Raises:
            CheckpointError: There is no such tensor, or its file cannot be read.
        """
        written = {piece.columns for piece in self._index.tensor(key).pieces}
        if columns in written:
            self._read_alike(key, start, target, columns)
        elif columns is not None:  # of rows that are whole, or cut at other columns
            self._read_rows(key, start, target, columns, {None: slice(None)})
        else:
            self._read_rows(key, start, target, None, {one: slice(one.first, one.first + one.number)
                                                       for one in written if one})  # fmt: skip

    def _read_rows(self, key: str, start: int, target: torch.Tensor, columns: Columns | None, parts: Any) -> None:
        """Read the whole rows that a stretch touches, part by part, and take the stretch out of them."""
        shape = self._index.tensor(key).shape
        width = columns.number if columns else shape[-1]
        first, last = start // width, -(-(start + target.numel()) // width)
        rows = target.new_empty(last - first, shape[-1])
        for part, place in parts.items():
            size = part.number if part else shape[-1]
            values = target.new_empty((last - first) * size)
            self.read_into(key, first * size, values, part)
            rows[:, place] = values.view(-1, size)
        if columns:
            rows = rows[:, columns.first : columns.first + width]
        target.copy_(rows.reshape(-1)[start - first * width :][: target.numel()])

    def _read_alike(self, key: str, start: int, target: torch.Tensor, columns: Columns | None) -> None:
        """Read where it was written in the same columns."""
        for piece, begin, length in self._index.stretches(key, start, target.numel(), columns):
            first = begin - piece.start
            values = self._slice(piece.file, key)[first : first + length]
            target[begin - start : begin - start + length].copy_(values)

    def whole(self, key: str) -> torch.Tensor:
        """A whole tensor, in its type and shape. Raises CheckpointError."""
        record = self._index.tensor(key)
        values = torch.empty(record.length, dtype=DTYPES[record.dtype])
        self.read_into(key, 0, values)
        return values.reshape(record.shape)

    def _slice(self, file: str, key: str) -> Any:
        try:
            if file not in self._files:
                self._files[file] = safe_open(self._folder / file, framework="pt")
            return self._files[file].get_slice(key)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self._folder.name}: {file} cannot be read ({error}); use an older one") from error


def total_bytes(parts: Iterable[Part]) -> int:
    """Size of all of them."""
    return sum(part.num_bytes for part in parts)
