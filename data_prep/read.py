"""The first phase: read, clean, drop with a reason, hash, and route to buckets."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from data_prep.dedup.exact import HASHES_NAME, hash_row
from data_prep.document import BrokenRecord, Document, HashedDocument, bucket_of, content_hash
from data_prep.filters.cleaning import clean_text
from data_prep.filters.rules import drop_reason
from data_prep.readers import read_file
from data_prep.readers.files import InputFile
from data_prep.spill import SpillWriter, read_bucket
from pipeline.config.prep import Cleaning, Source

DOCUMENTS_NAME = "documents"


@dataclass(frozen=True)
class ReadTask:
    """Some files of one source."""

    folder: Path
    """Where its spill files go."""
    source: Source
    """The source."""
    source_number: int
    """Its place in the config."""
    files: tuple[InputFile, ...]
    """What to read."""
    cleaning: Cleaning
    """What to do to the text."""
    seed: int
    """Seed of the content hash."""
    num_buckets: int
    """Buckets of this source's documents."""
    num_partitions: int
    """Partitions of all sources' hashes."""


@dataclass(frozen=True)
class ReadResult:
    """What a reading task found."""

    read: int
    """Records."""
    dropped: Counter[str]
    """How many were dropped, by reason."""
    text_bytes: int
    """Bytes of text read, before cleaning."""


def read_documents(task: ReadTask) -> ReadResult:
    """Read a task's files into its spill files."""
    dropped: Counter[str] = Counter()
    read = text_bytes = 0
    with SpillWriter(task.folder / DOCUMENTS_NAME) as documents, SpillWriter(task.folder / HASHES_NAME) as hashes:
        for file in task.files:
            for record in read_file(task.source, file):
                read += 1
                text_bytes += 0 if isinstance(record, BrokenRecord) else len(record.text.encode("utf-8", "replace"))
                reason = _route(record, task, documents, hashes)
                if reason:
                    dropped[reason] += 1
    return ReadResult(read, dropped, text_bytes)


def _route(record: Document | BrokenRecord, task: ReadTask, documents: SpillWriter, hashes: SpillWriter) -> str | None:
    """Put a record into its bucket, or say why it is dropped."""
    if isinstance(record, BrokenRecord):
        return record.reason
    text = clean_text(record.text, task.cleaning)
    reason = drop_reason(text, task.cleaning)
    if reason:
        return reason
    kept = Document(record.source, record.origin, record.position, text)
    hash_ = content_hash(text, task.seed)
    documents.add(bucket_of(hash_, task.num_buckets), _pack(hash_, kept))
    hashes.add(bucket_of(hash_, task.num_partitions), hash_row(hash_, task.source_number, kept))
    return None


def _pack(hash_: int, document: Document) -> bytes:
    row = (f"{hash_:032x}", document.origin, document.position, document.text)
    return json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"


def unpack_bucket(folder: Path, source: str, bucket: int) -> list[HashedDocument]:
    """One bucket's documents as one reading task left them."""
    documents = []
    for line in read_bucket(folder / DOCUMENTS_NAME, bucket).splitlines():
        hash_, origin, position, text = json.loads(line)
        documents.append(HashedDocument(int(hash_, 16), Document(source, origin, position, text)))
    return documents
