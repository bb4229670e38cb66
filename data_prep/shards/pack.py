"""Whole documents into chunks."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.chunk import Chunk, DocumentRecord

Encoded = tuple[DocumentRecord, NDArray[Any]]
"""A document's record and its tokens, EOS last."""


def pack(documents: Iterable[Encoded], chunk_tokens: int) -> Iterator[Chunk]:
    """Chunks of at most `chunk_tokens`, of whole documents; only a document longer than that is cut."""
    chunk = _OpenChunk()
    for record, tokens in documents:
        if chunk.size and chunk.size + len(tokens) > chunk_tokens:
            yield chunk.close()
            chunk = _OpenChunk()
        while len(tokens) > chunk_tokens:
            chunk.add(record, tokens[:chunk_tokens], ends=False)
            yield chunk.close()
            chunk = _OpenChunk(continued=True)
            record, tokens = replace(record, text_bytes=0), tokens[chunk_tokens:]
        chunk.add(record, tokens)
    if chunk.size:
        yield chunk.close()


class _OpenChunk:
    """A chunk that documents are still added to."""

    def __init__(self, continued: bool = False) -> None:
        self.size = 0
        self._continued, self._continues = continued, False
        self._records: list[DocumentRecord] = []
        self._tokens: list[NDArray[Any]] = []
        self._ends: list[int] = []

    def add(self, record: DocumentRecord, tokens: NDArray[Any], ends: bool = True) -> None:
        self._records.append(record)
        self._tokens.append(tokens)
        self.size += len(tokens)
        self._continues = not ends
        if ends:
            self._ends.append(self.size)

    def close(self) -> Chunk:
        return Chunk(
            np.concatenate(self._tokens),
            np.array(self._ends, dtype=np.uint32),
            tuple(self._records),
            continued=self._continued,
            continues=self._continues,
        )
