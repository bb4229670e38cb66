"""A corpus at a URL as a folder on this machine: manifest and tokenizer at once, shards when they are needed."""

import getpass
import hashlib
import json
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from pipeline.config.data import CorpusCache
from pipeline.corpus.manifest import MANIFEST_NAME, SPLIT_FOLDERS, ShardEntry, Split, read_manifest
from pipeline.corpus.remote.cache import Cache, RemoteShard
from pipeline.corpus.remote.locks import locked
from pipeline.corpus.remote.patience import DamagedBodyError, Patience
from pipeline.corpus.remote.store import Store
from pipeline.errors import CorpusError
from pipeline.runtime.files import sync_file, sync_folder

_TOKENIZER = "tokenizer"
_TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
"""All that `pipeline.tokenizer` reads."""


class CorpusCopy:
    """What is here of a corpus that is elsewhere."""

    def __init__(self, url: str, settings: CorpusCache) -> None:
        """Fetch manifest and tokenizer, unless this manifest's are here already.

        Raises:
            CorpusError: There is no corpus, it cannot be reached, or the cache cannot be used.
            ConfigError, MissingDependencyError: The URL cannot be opened.
        """
        self.cache = _cache(settings)
        patience = Patience(settings.attempts, settings.first_pause_seconds, settings.most_pause_seconds)
        self._store = Store(url, patience, settings.timeout_seconds)
        content = self._manifest()
        self.folder = self.cache.folder / "corpora" / hashlib.sha256(content).hexdigest()
        with locked(self.cache.lock_path(self.folder)):
            if not self.folder.is_dir():
                self._make(content)

    def shard(self, split: Split, source: str, entry: ShardEntry) -> RemoteShard:
        """One of its shards."""
        return RemoteShard(self._store, f"{SPLIT_FOLDERS[split]}/{source}", entry)

    def _manifest(self) -> bytes:
        content = self._store.patience.result(self._store.shown(MANIFEST_NAME), self._whole_manifest)
        if content is None:
            raise CorpusError(
                f"corpus {self._store} has no {MANIFEST_NAME}; check the address, or copy a prepared corpus there"
            )
        return content

    def _whole_manifest(self) -> bytes | None:
        """It has no checksum but is JSON up to its last byte; None if there is none."""
        try:
            content = self._store.read(MANIFEST_NAME)
        except FileNotFoundError:
            return None
        try:
            json.loads(content)
        except ValueError as error:
            raise DamagedBodyError(f"no whole JSON: {error}") from error
        return content

    def _make(self, manifest: bytes) -> None:
        partial = self.folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed: the lock is ours
        (partial / _TOKENIZER).mkdir(parents=True)
        (partial / MANIFEST_NAME).write_bytes(manifest)
        sync_file(partial / MANIFEST_NAME)
        fingerprint = read_manifest(partial).tokenizer.fingerprint
        what = self._store.shown(_TOKENIZER)
        files = self._store.patience.result(what, lambda: self._tokenizer_files(fingerprint))
        for name, content in files.items():
            (partial / _TOKENIZER / name).write_bytes(content)
            sync_file(partial / _TOKENIZER / name)
        partial.rename(self.folder)
        sync_folder(self.folder.parent)

    def _tokenizer_files(self, fingerprint: str) -> dict[str, bytes]:
        """The tokenizer's files, asked for by their names, as not everybody who may read may also list."""
        files: dict[str, bytes] = {}
        for name in _TOKENIZER_FILES:
            try:
                files[name] = self._store.read(f"{_TOKENIZER}/{name}")
            except (FileNotFoundError, PermissionError):  # who may not list is not told that there is no such file
                continue
            if fingerprint in (_fingerprint(files), hashlib.sha256(files[name]).hexdigest()):
                return files
        if not files:
            raise FileNotFoundError("there is none of " + ", ".join(_TOKENIZER_FILES))
        raise DamagedBodyError("it is not the one that the tokens were made with")


def _fingerprint(files: dict[str, bytes]) -> str:
    """As `pipeline.tokenizer` computes it where there are several files; of `tokenizer.model` it is the sha256."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@cache  # one for all corpora of a process
def _cache(settings: CorpusCache) -> Cache:
    folder = settings.folder or f"{tempfile.gettempdir()}/tarmac-{getpass.getuser()}"
    return Cache(Path(os.path.expandvars(folder)).expanduser().absolute(), settings.max_bytes, settings.downloads)
