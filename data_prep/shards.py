"""Documents to shards: encode, pack whole documents into chunks, write tarballs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.buckets import SplitSource
from data_prep.document import Document
from pipeline.corpus.chunk import Chunk, DocumentRecord
from pipeline.corpus.manifest import SPLIT_FOLDERS, ShardEntry, Split
from pipeline.corpus.writer import write_shard
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.load import load_tokenizer

Encoded = tuple[DocumentRecord, NDArray[Any]]


@dataclass(frozen=True)
class ShardTask:
    """Some buckets of one source and split; they become one shard."""

    corpus: Path
    """The corpus folder being written, with its tokenizer."""
    source: SplitSource
    """The source."""
    split: Split
    """Which of its documents."""
    number: int
    """Number of the shard."""
    buckets: range
    """Which of its buckets."""
    chunk_tokens: int
    """Tokens in a chunk, at most."""


def shard_tasks(corpus: Path, source: SplitSource, num_validation_shards: int, chunk_tokens: int) -> list[ShardTask]:
    """One shard for each bucket, and the held-out documents of all buckets spread over validation shards."""
    size = source.num_buckets
    bounds = [number * size // num_validation_shards for number in range(num_validation_shards + 1)]
    train = [
        ShardTask(corpus, source, "train", bucket, range(bucket, bucket + 1), chunk_tokens) for bucket in range(size)
    ]
    return train + [
        ShardTask(corpus, source, "validation", number, range(start, stop), chunk_tokens)
        for number, (start, stop) in enumerate(pairwise(bounds))
    ]


def make_shard(task: ShardTask) -> ShardEntry | None:
    """Write a task's shard; None if its buckets hold no document of the split."""
    tokenizer = load_tokenizer(task.corpus / "tokenizer")
    documents = [hashed.document for bucket in task.buckets for hashed in task.source.documents(bucket, task.split)]
    if not documents:
        return None
    name = f"{task.source.name}-{task.number:06d}.tar"
    path = task.corpus / SPLIT_FOLDERS[task.split] / task.source.name / name
    return write_shard(path, pack(encode(documents, tokenizer), task.chunk_tokens))


def token_dtype(vocab_size: int) -> str:
    """The smallest of the two token types that holds every id."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


def encode(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[Encoded]:
    """Each document's record and tokens, EOS last."""
    dtype = token_dtype(tokenizer.vocab_size)
    for document in documents:
        size = len(document.text.encode("utf-8"))
        record = DocumentRecord(document.id, document.origin, document.position, size)
        yield record, np.array([*tokenizer.encode(document.text), tokenizer.eos_id], dtype=dtype)


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
            record, tokens = DocumentRecord(record.id, record.origin, record.position, 0), tokens[chunk_tokens:]
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
