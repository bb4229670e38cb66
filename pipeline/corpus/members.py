"""The files in a shard's tarball but for the tokens, read out of its mapping."""

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


class _MappedFile(io.RawIOBase):
    """A mapped file, read from its first byte. Its name may be gone by now: a cache lets shards go that are mapped."""

    def __init__(self, content: NDArray[np.uint8]) -> None:
        self._content, self._place = content, 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io passes a memoryview
        part = self._content[self._place : self._place + len(buffer)]
        buffer[: len(part)] = part.data
        self._place += len(part)
        return len(part)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: len(self._content)}[whence]
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        return self._place


def members(content: NDArray[np.uint8], *endings: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files with some endings in a mapped tarball, in order. Raises tarfile.TarError."""
    with tarfile.open(fileobj=_MappedFile(content), mode="r:") as tar:
        for member in tar:
            if member.name.endswith(endings):
                stream = tar.extractfile(member)
                assert stream is not None
                yield member.name, stream.read()


def ends_fit(ends: NDArray[Any], meta: dict[str, Any], num_tokens: int) -> bool:
    """Whether document ends can be those of a chunk. They have no checksum: most of what is wrong with them shows."""
    goes_on = bool(meta["continues"])
    last = int(ends[-1]) if len(ends) else 0
    is_whole = last <= num_tokens if goes_on else last == num_tokens
    return is_whole and len(ends) + goes_on == len(meta["ids"]) and bool((ends[1:] >= ends[:-1]).all())
