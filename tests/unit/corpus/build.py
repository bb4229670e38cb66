"""Corpora for tests, made of token lists."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.config.data import CorpusCache
from pipeline.corpus.chunk import Chunk, DocumentRecord
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.manifest import SPLIT_FOLDERS, Manifest, ShardEntry, Split, TokenizerEntry, write_manifest
from pipeline.corpus.remote.corpus_copy import CorpusCopy
from pipeline.corpus.writer import write_shard

TOKENIZER = b"the tokenizer"
FINGERPRINT = hashlib.sha256(TOKENIZER).hexdigest()

Documents = Sequence[Sequence[int]]
"""The tokens of each document."""


def record(number: int, text_bytes: int) -> DocumentRecord:
    """Where document `number` came from; the name holds what JSON and tar must keep."""
    metadata = {"id": f"ü{number}"} if number % 3 == 1 else {}
    return DocumentRecord(f"{number:032x}", f"ordner/ä {number}.py", number, text_bytes, metadata)


def cut(documents: Documents, chunk_tokens: int, dtype: str = "uint16") -> list[Chunk]:
    """Documents as chunks: a document longer than a chunk is spread over several, others are whole."""
    chunks: list[Chunk] = []
    tokens: list[int] = []
    ends: list[int] = []
    records: list[DocumentRecord] = []
    continued = False

    def close(continues: bool) -> None:
        nonlocal tokens, ends, records, continued
        if tokens:
            arrays = np.array(tokens, dtype=dtype), np.array(ends, dtype=np.uint32)
            chunks.append(Chunk(*arrays, tuple(records), continued, continues))
        tokens, ends, records, continued = [], [], [], continues

    for number, document in enumerate(documents):
        if tokens and len(tokens) + len(document) > chunk_tokens:
            close(continues=False)
        rest = list(document)
        records.append(record(number, 10 * len(document)))
        while len(rest) > chunk_tokens:
            tokens, rest = rest[:chunk_tokens], rest[chunk_tokens:]
            close(continues=True)
            records.append(record(number, 0))
        tokens += rest
        ends.append(len(tokens))
    close(continues=False)
    return chunks


def write_corpus(
    folder: Path,
    sources: Mapping[str, Sequence[Documents]],
    split: Split = "train",
    chunk_tokens: int = 50,
    fingerprint: str = "0" * 64,
) -> Corpus:
    """A corpus with, per source, one shard for each list of documents."""
    entries = {
        name: [
            write_shard(folder / SPLIT_FOLDERS[split] / name / f"{name}-{number:06d}.tar", cut(documents, chunk_tokens))
            for number, documents in enumerate(shards)
        ]
        for name, shards in sources.items()
    }
    write_manifest(folder, manifest(entries, split, fingerprint))
    return Corpus(folder)


def manifest(entries: dict[str, list[ShardEntry]], split: Split = "train", fingerprint: str = "0" * 64) -> Manifest:
    """A manifest of some shards."""
    return Manifest(
        format_version=1,
        dtype="uint16",
        tokenizer=TokenizerEntry(fingerprint=fingerprint, vocab_size=60_000, eos_id=2),
        config_sha256="0" * 64,
        versions={"tarmac": "0.1.0"},
        train=entries if split == "train" else {},
        validation=entries if split == "validation" else {},
    )


def copied(origin: Path, cache: Path, **settings: object) -> Corpus:
    """A corpus as if it was elsewhere: what is needed of it comes into a cache. It was written with `TOKENIZER`'s."""
    (origin / "tokenizer").mkdir(exist_ok=True)
    (origin / "tokenizer" / "tokenizer.model").write_bytes(TOKENIZER)
    copy = CorpusCopy(f"file://{origin}", CorpusCache.model_validate({"folder": str(cache), **settings}))
    return Corpus(copy.folder, copy)
