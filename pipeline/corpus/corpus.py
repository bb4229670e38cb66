"""A corpus folder, opened."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.config.data import CorpusCache
from pipeline.corpus.index import DamagedShardError
from pipeline.corpus.manifest import SPLIT_FOLDERS, Manifest, ShardEntry, Split, read_manifest
from pipeline.corpus.reader import ShardReader
from pipeline.corpus.remote.corpus_copy import CorpusCopy
from pipeline.corpus.remote.urls import is_url, local_path


@dataclass(frozen=True)
class Corpus:
    """A folder that `tarmac prep` wrote."""

    folder: Path
    """The folder; of a corpus elsewhere, one with what is here of it."""
    copy: CorpusCopy | None = None
    """Of a corpus elsewhere: how its shards come here."""

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
        """Map one shard.

        Raises:
            CorpusError: It cannot be fetched, is missing, or does not fit the manifest.
        """
        shard = self.manifest.shards(split, source)[number]
        try:
            return self._mapped(split, source, shard)
        except DamagedShardError:
            if not self.mend_shard(split, source, number):
                raise
            return self._mapped(split, source, shard)

    def mend_shard(self, split: Split, source: str, number: int) -> bool:
        """Fetch a shard of a corpus elsewhere again if its copy here is damaged; False if the corpus is here.

        Readers of that copy stay as they are: it is to be opened anew.
        """
        if self.copy is None:
            return False
        self.copy.cache.mend(self.copy.shard(split, source, self.manifest.shards(split, source)[number]))
        return True

    def _mapped(self, split: Split, source: str, shard: ShardEntry) -> ShardReader:
        with self._present(split, source, shard) as path:
            reader = ShardReader(path, self.manifest.dtype, shard.tokens)
            size = path.stat().st_size
        if size != shard.bytes:  # cut after its tokens, so that only metadata is lost
            raise DamagedShardError(
                f"shard {path} has {size} bytes, should have {shard.bytes}; run `tarmac verify --repair`"
            )
        return reader

    @contextmanager
    def _present(self, split: Split, source: str, shard: ShardEntry) -> Iterator[Path]:
        if self.copy is None:
            yield self.shard_path(split, source, shard)
            return
        with self.copy.cache.shard(self.copy.shard(split, source, shard)) as path:
            yield path


def open_corpus(place: str, cache: CorpusCache | None = None) -> Corpus:
    """The corpus at a path or URL; one that is elsewhere is read by way of a cache.

    Raises:
        CorpusError: There is none at a URL, or it cannot be reached; at a path, the manifest raises it.
        ConfigError, MissingDependencyError: The URL cannot be opened.
    """
    if not is_url(place):
        return Corpus(Path(local_path(place)))
    copy = CorpusCopy(place, cache or CorpusCache())
    return Corpus(copy.folder, copy)


def fetch_ahead(shards: Sequence[tuple[Corpus, Split, str, int]]) -> None:
    """Fetch shards that are elsewhere in the background: corpus, split, source and number, the next ones first.

    All that comes next is named in one call, as it replaces what was named before, and does not go for what is behind.
    """
    copies = [corpus.copy for corpus, *_ in shards if corpus.copy]
    for cache in {copy.cache for copy in copies}:
        cache.prefetch([
            corpus.copy.shard(split, source, corpus.manifest.shards(split, source)[number])
            for corpus, split, source, number in shards if corpus.copy and corpus.copy.cache is cache
        ])  # fmt: skip
