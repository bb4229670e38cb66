"""What is wrong with a corpus: every checksum, count and index, and files that it should not have."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.index import build_index, index_path
from pipeline.corpus.manifest import SPLIT_FOLDERS, FileEntry, Manifest, ShardEntry, Split
from pipeline.errors import CorpusError

NEXT_NAME = ".next"
"""Folder of what an append changes as soon as the manifest is written."""
_OTHER_FOLDERS = ("pairs", "rejects", "dropped")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class ShardFile:
    """A shard that the manifest names."""

    split: Split
    """Its split."""
    source: str
    """Its source."""
    entry: ShardEntry
    """Its line of the manifest."""
    path: Path
    """Its file."""


def shard_files(corpus: Corpus) -> list[ShardFile]:
    """Every shard of all splits."""
    return [
        ShardFile(split, source, shard, corpus.shard_path(split, source, shard))
        for split in SPLIT_FOLDERS
        for source, shards in sorted(corpus.manifest.sources(split).items())
        for shard in shards
    ]


def named_files(manifest: Manifest) -> dict[str, ShardEntry | FileEntry]:
    """Every file that a manifest names, by its path in the corpus."""
    shards = {
        f"{folder}/{source}/{shard.name}": shard
        for split, folder in SPLIT_FOLDERS.items()
        for source, shards in sorted(manifest.sources(split).items())
        for shard in shards
    }
    return {**shards, **manifest.files}


def shard_fault(path: Path, entry: ShardEntry) -> str | None:
    """What is wrong with a shard or its index, in words; None if nothing is.

    A missing index is no fault: readers build it anew.
    """
    try:
        return _content_fault(path, entry) or _index_fault(path, entry)
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _content_fault(path: Path, entry: ShardEntry) -> str | None:
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != entry.bytes:
        return f"has {path.stat().st_size} bytes, should have {entry.bytes}"
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return None if digest == entry.sha256 else "has other bytes than were written"


def _index_fault(path: Path, entry: ShardEntry) -> str | None:
    try:
        truth = build_index(path)
    except CorpusError as error:
        return str(error)
    if (len(truth), int(truth["tokens"].sum())) != (entry.chunks, entry.tokens):
        return f"holds {len(truth)} chunks of {int(truth['tokens'].sum())} tokens, the manifest says otherwise"
    try:
        index = np.load(index_path(path), allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError):
        return "has a damaged index"
    return None if np.array_equal(index, truth) else "has an index that does not fit it"


def file_entry(path: Path) -> FileEntry:
    """Size and checksum of a file."""
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
        return FileEntry(bytes=file.tell(), xxh3=digest.hexdigest())


def file_fault(path: Path, entry: FileEntry) -> str | None:
    """What is wrong with a file that is no shard, in words; None if nothing is."""
    try:
        return None if file_entry(path) == entry else "has other bytes than were written"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def stray_files(corpus: Corpus) -> list[Path]:
    """Files in the corpus's own folders that the manifest does not name; a killed append leaves some.

    Where a manifest names no files but shards, as those of version 1, only strays among shards are known.
    """
    paths = [file.path for file in shard_files(corpus)]
    named = {*paths, *map(index_path, paths), *(corpus.folder / name for name in corpus.manifest.files)}
    folders = [*SPLIT_FOLDERS.values(), "index", NEXT_NAME, *(_OTHER_FOLDERS if corpus.manifest.files else ())]
    found = {path for name in folders for path in (corpus.folder / name).rglob("*") if not path.is_dir()}
    return sorted({*found, *corpus.folder.glob(".*.partial")} - named)
