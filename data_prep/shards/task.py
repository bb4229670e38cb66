"""Documents to shards: encode, pack whole documents into chunks, write tarballs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_prep.documents.frames import StoredDocument
from data_prep.documents.source import SourceDocuments
from data_prep.encoding.encoder import Encoder, make_encoder, sampled, verify
from data_prep.shards.pack import Encoded, pack
from data_prep.shards.statistics import Counted, ShardStatistics
from data_prep.tasks.task import Task
from data_prep.tokenizer.tasks import TOKENIZER_FOLDER
from pipeline.corpus.chunk import DocumentRecord
from pipeline.corpus.manifest import SPLIT_FOLDERS, ShardEntry, Split
from pipeline.corpus.writer import write_shard
from pipeline.tokenizer.load import load_tokenizer

Encode = Callable[[Sequence[str]], tuple[NDArray[Any], NDArray[np.int64]]]
_BATCH_BYTES = 4 * 2**20


@dataclass(frozen=True)
class ShardResult:
    """One shard, or nothing if its range holds no document of the split."""

    entry: ShardEntry | None
    """Its line of the manifest."""
    encoder: str
    """What encoded it."""
    re_encoded: bool
    """Whether the fast encoder differed on the sample, so that the reference encoded all of it."""
    statistics: ShardStatistics
    """What it holds."""


@dataclass(frozen=True)
class ShardTask(Task):
    """One range of hashes of one source and split; it becomes one shard."""

    phase: ClassVar[str] = "shards"
    result_type: ClassVar[type] = ShardResult
    self_checking: ClassVar[tuple[str, ...]] = (".tar",)

    source: SourceDocuments
    """The source."""
    split: Split
    """Which of its documents."""
    number: int
    """Number of the shard."""
    first: int
    """First of the range of hashes' upper halves."""
    last: int
    """Last of it."""
    chunk_tokens: int
    """Tokens in a chunk, at most."""
    fingerprint: str
    """The tokenizer's."""
    encoder: str
    """Name of the encoder that was chosen."""
    tokenizer: str = field(compare=False)
    """The tokenizer's task's folder, relative to the work folder."""
    metadata: tuple[str, ...] = ()
    """Names of the metadata that are kept."""

    def run(self, work: Path, folder: Path) -> ShardResult:
        """Write the shard and its index where they go in a corpus, below `folder`."""
        tokenizer = load_tokenizer(work / self.tokenizer / TOKENIZER_FOLDER)
        encoder = make_encoder(tokenizer, self.encoder)
        try:
            return self._write(work, folder, _verified(encoder), encoder.name, tokenizer.eos_id)
        except _DiffersError:
            result = self._write(work, folder, _unverified(encoder.reference), "reference", tokenizer.eos_id)
            return replace(result, re_encoded=True)

    def _write(self, work: Path, folder: Path, encode: "_EncodeBatch", encoder: str, eos_id: int) -> ShardResult:
        counted = Counted(self.source.documents(work, self.split, self.first, self.last))
        name = f"{self.source.name}-{self.number:06d}.tar"
        path = folder / SPLIT_FOLDERS[self.split] / self.source.name / name
        encoded = counted.tokens(encode_documents(counted, self.source.name, encode, eos_id, self.metadata))
        entry = write_shard(path, pack(encoded, self.chunk_tokens)) if counted.any() else None
        return ShardResult(entry, encoder, False, counted.statistics())


class _DiffersError(Exception):
    """The fast encoder gave other ids than the reference."""


_EncodeBatch = Callable[[Sequence[StoredDocument]], tuple[NDArray[Any], NDArray[np.int64]]]


def _unverified(encode: Encode) -> _EncodeBatch:
    return lambda documents: encode([document.text.decode("utf-8") for document in documents])


def _verified(encoder: Encoder) -> _EncodeBatch:
    """Encodes a batch and compares a sample of it with the reference: of the first batch always its first document
    and long texts as a whole."""
    is_first = True

    def encode(documents: Sequence[StoredDocument]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        nonlocal is_first
        texts = [document.text.decode("utf-8") for document in documents]
        tokens, lengths = encoder.encode(texts)
        which = {*sampled([document.hash for document in documents]), *([0] if is_first else [])}
        if not verify(encoder, texts, tokens, lengths, which, long=is_first):
            raise _DiffersError
        is_first = False
        return tokens, lengths

    return encode


def encode_documents(
    documents: Iterable[StoredDocument], source: str, encode: _EncodeBatch, eos_id: int, metadata: Sequence[str] = ()
) -> Iterator[Encoded]:
    """Each document's record, with metadata of some names, and tokens, EOS last."""
    for batch in _batches(documents):
        tokens, lengths = encode(batch)
        closed, start = _with_eos(tokens, lengths, eos_id), 0
        for document, length in zip(batch, lengths.tolist(), strict=True):
            stop = start + length + 1
            yield _record(document, source, metadata), closed[start:stop]
            start = stop


def _record(document: StoredDocument, source: str, metadata: Sequence[str]) -> DocumentRecord:
    fields = document.fields if metadata else {}
    kept = {name: fields[name] for name in metadata if name in fields}
    id_ = f"{document.id(source):032x}"
    return DocumentRecord(id_, document.origin, document.position, len(document.text), kept)


def _batches(documents: Iterable[StoredDocument]) -> Iterator[list[StoredDocument]]:
    batch: list[StoredDocument] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _with_eos(tokens: NDArray[Any], lengths: NDArray[np.int64], eos_id: int) -> NDArray[Any]:
    """Texts' tokens laid end to end, with EOS after each text's."""
    closed = np.full(len(tokens) + len(lengths), eos_id, dtype=tokens.dtype)
    is_text = np.ones(len(closed), dtype=bool)
    is_text[np.cumsum(lengths + 1) - 1] = False
    closed[is_text] = tokens
    return closed
