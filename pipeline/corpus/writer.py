"""Writing shards: byte-reproducible USTAR tarballs with their index beside them."""

import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.corpus.chunk import NPY_HEADER_BYTES, Chunk, encode_chunk, token_hash
from pipeline.corpus.index import INDEX_DTYPE, index_path, write_index
from pipeline.corpus.manifest import ShardEntry
from pipeline.runtime.files import atomic_file

_TAR_BLOCK = 512


class _HashingFile(io.RawIOBase):
    """Passes writes on and hashes them, so that the checksum costs no second read."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256, self.size = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # tarfile writes bytes only
        self.file.write(data)
        self.sha256.update(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        return self.size


def write_shard(path: str | Path, chunks: Iterable[Chunk]) -> ShardEntry:
    """Write chunks as one tarball with its index, whole or not at all, and return its manifest entry.

    Args:
        path: `…/<split folder>/<source>/<name>.tar` inside a corpus folder.
        chunks: In order; all tokens of one dtype.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[int, int, int]] = []
    documents = text_bytes = 0
    with atomic_file(target) as file:
        hashing = _HashingFile(file)
        with tarfile.open(fileobj=hashing, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for number, chunk in enumerate(chunks):
                rows.append((tar.offset + _TAR_BLOCK + NPY_HEADER_BYTES, len(chunk.tokens), token_hash(chunk.tokens)))
                _add_chunk(tar, number, chunk)
                documents += len(chunk.documents) - chunk.continued
                text_bytes += sum(document.text_bytes for document in chunk.documents)
    index = np.array(rows, dtype=INDEX_DTYPE)
    write_index(index_path(target), index)
    return ShardEntry(
        name=target.name,
        bytes=hashing.size,
        sha256=hashing.sha256.hexdigest(),
        tokens=int(index["tokens"].sum()),
        documents=documents,
        text_bytes=text_bytes,
        chunks=len(index),
    )


def _add_chunk(tar: tarfile.TarFile, number: int, chunk: Chunk) -> None:
    for member, content in encode_chunk(chunk).items():
        info = tarfile.TarInfo(f"{number:09d}.{member}")
        info.size, info.mode = len(content), 0o644  # mtime, uid and gid stay 0: same input, same bytes
        tar.addfile(info, io.BytesIO(content))
