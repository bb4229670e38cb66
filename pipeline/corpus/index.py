"""The index of a shard: where each chunk's tokens lie in the tarball. It can always be rebuilt from the tar."""

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.chunk import npy_array, npy_bytes
from pipeline.errors import CorpusError
from pipeline.runtime.files import atomic_file

_HEADER = re.compile(rb"\{'descr': '[<|]u(?P<width>\d)', 'fortran_order': False, 'shape': \((?P<tokens>\d+),\), \}\s*")
INDEX_DTYPE = np.dtype([("offset", "<u8"), ("tokens", "<u8"), ("xxh3", "<u8")])


class DamagedShardError(CorpusError):
    """A shard's file is missing, or is not what was written."""


def index_path(shard: Path) -> Path:
    """`corpus/index/<split folder>/<source>/<name>.idx.npy` of `corpus/<split folder>/<source>/<name>.tar`."""
    corpus, split, source = shard.parents[2], shard.parents[1].name, shard.parent.name
    return corpus / "index" / split / source / f"{shard.stem}.idx.npy"


def write_index(path: Path, index: NDArray[Any]) -> None:
    """Write an index, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(npy_bytes(index))


def read_index(shard: Path) -> NDArray[Any]:
    """A shard's index: from its file, or rebuilt from the tar when that is missing or damaged."""
    try:
        return npy_array(index_path(shard).read_bytes(), INDEX_DTYPE)
    except (OSError, ValueError):
        return build_index(shard)


def build_index(shard: Path) -> NDArray[Any]:
    """Read a tarball's headers and metadata into an index. Raises DamagedShardError if it is missing or not whole."""
    rows: list[tuple[int, int, int]] = []
    place = (0, 0)
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.name.endswith(".tokens.npy"):
                    place = _token_place(tar, member)
                elif member.name.endswith(".meta.json"):
                    stream = tar.extractfile(member)
                    assert stream is not None
                    rows.append((*place, int(json.loads(stream.read())["xxh3"], 16)))
    except (OSError, tarfile.TarError, ValueError, KeyError) as error:
        raise DamagedShardError(f"shard {shard} cannot be read ({error}); prepare the corpus again") from error
    return np.array(rows, dtype=INDEX_DTYPE)


def _token_place(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[int, int]:
    stream = tar.extractfile(member)
    assert stream is not None
    start = stream.read(10)  # magic, version 1.0, and the header's size; why NumPy does not parse it: `npy_array`
    header = stream.read(int.from_bytes(start[8:], "little"))
    found = _HEADER.fullmatch(header)
    if start[:8] != b"\x93NUMPY\x01\x00" or found is None:
        raise ValueError(f"{member.name} is no array of tokens")
    tokens, size = int(found["tokens"]), stream.tell()
    if member.size - size != tokens * int(found["width"]):
        raise ValueError(f"{member.name} is not whole")
    return member.offset_data + size, tokens
