"""A corpus folder, opened."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.corpus.manifest import SPLIT_FOLDERS, Manifest, ShardEntry, Split, read_manifest
from pipeline.corpus.reader import ShardReader
from pipeline.errors import CorpusError


@dataclass(frozen=True)
class Corpus:
    """A folder that `tarmac prep` wrote."""

    folder: Path
    """The folder."""

    @cached_property
    def manifest(self) -> Manifest:
        """What it holds. Raises CorpusError if the folder is not a corpus."""
        return read_manifest(self.folder)

    @property
    def tokenizer_folder(self) -> Path:
        """Where its tokenizer is."""
        return self.folder / "tokenizer"

    def shard_path(self, split: Split, source: str, shard: ShardEntry) -> Path:
        """Where a shard is."""
        return self.folder / SPLIT_FOLDERS[split] / source / shard.name

    def open_shard(self, split: Split, source: str, number: int) -> ShardReader:
        """Map one shard. Raises CorpusError if it is missing or does not fit the manifest."""
        shard = self.manifest.shards(split, source)[number]
        path = self.shard_path(split, source, shard)
        reader = ShardReader(path, self.manifest.dtype, shard.tokens)
        if path.stat().st_size != shard.bytes:  # cut after its tokens, so that only metadata is lost
            raise CorpusError(
                f"shard {path} has {path.stat().st_size} bytes, should have {shard.bytes}; run `tarmac verify --repair`"
            )
        return reader
