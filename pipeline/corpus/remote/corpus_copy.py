"""A corpus at a URL as a folder on this machine: manifest and tokenizer at once, shards when they are needed."""

import getpass
import hashlib
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from pipeline.config.data import CorpusCache
from pipeline.corpus.manifest import MANIFEST_NAME, SPLIT_FOLDERS, ShardEntry, Split, read_manifest
from pipeline.corpus.remote.cache import Cache, RemoteShard
from pipeline.corpus.remote.locks import locked
from pipeline.corpus.remote.origin import TOKENIZER_FILES, TOKENIZER_FOLDER, Origin, is_tokenizer
from pipeline.runtime.files import sync_file, sync_folder


class CorpusCopy:
    """What is here of a corpus that is elsewhere."""

    def __init__(self, url: str, settings: CorpusCache) -> None:
        """Fetch manifest and tokenizer, unless this manifest's are here already.

        Raises:
            CorpusError: There is no corpus, it cannot be reached, or the cache cannot be used.
            ConfigError, MissingDependencyError: The URL cannot be opened.
        """
        self.cache = _cache(settings)
        self._origin = Origin(url, settings)
        content = self._origin.manifest()
        self.folder = self.cache.folder / "corpora" / hashlib.sha256(content).hexdigest()
        with locked(self.cache.lock_path(self.folder)):
            if not self._is_here(content):
                self._make(content)

    def shard(self, split: Split, source: str, entry: ShardEntry) -> RemoteShard:
        """One of its shards."""
        return RemoteShard(self._origin.store, f"{SPLIT_FOLDERS[split]}/{source}", entry)

    def _is_here(self, manifest: bytes) -> bool:
        """Whether the folder has what was fetched once, as it was."""
        try:
            is_same = (self.folder / MANIFEST_NAME).read_bytes() == manifest
            paths = [self.folder / TOKENIZER_FOLDER / name for name in TOKENIZER_FILES]
            files = {path.name: path.read_bytes() for path in paths if path.is_file()}
        except OSError:
            return False
        return is_same and is_tokenizer(files, read_manifest(self.folder).tokenizer.fingerprint)

    def _make(self, manifest: bytes) -> None:
        partial = self.folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed: the lock is ours
        (partial / TOKENIZER_FOLDER).mkdir(parents=True)
        (partial / MANIFEST_NAME).write_bytes(manifest)
        sync_file(partial / MANIFEST_NAME)
        for name, content in self._origin.tokenizer(read_manifest(partial).tokenizer.fingerprint).items():
            (partial / TOKENIZER_FOLDER / name).write_bytes(content)
            sync_file(partial / TOKENIZER_FOLDER / name)
        shutil.rmtree(self.folder, ignore_errors=True)  # if it is damaged
        partial.rename(self.folder)
        sync_folder(self.folder.parent)


@cache  # one for all corpora of a process
def _cache(settings: CorpusCache) -> Cache:
    folder = settings.folder or f"{tempfile.gettempdir()}/tarmac-{getpass.getuser()}"
    return Cache(Path(os.path.expandvars(folder)).expanduser().absolute(), settings.max_bytes, settings.downloads)
