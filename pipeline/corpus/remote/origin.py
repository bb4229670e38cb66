"""A corpus at a URL: its manifest and tokenizer, and whether its files are what was written. Nothing is kept."""

import hashlib
from typing import Protocol

import xxhash

from pipeline.config.data import CorpusCache
from pipeline.corpus.manifest import MANIFEST_NAME, FileEntry, ShardEntry, fits_its_checksum
from pipeline.corpus.remote.patience import DamagedBodyError, Patience
from pipeline.corpus.remote.store import Store
from pipeline.errors import CorpusError

TOKENIZER_FOLDER = "tokenizer"
TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
"""All that `pipeline.tokenizer` reads."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> object: ...

    def hexdigest(self) -> str: ...


class Origin:
    """Where a corpus is."""

    def __init__(self, url: str, settings: CorpusCache) -> None:
        """Prepare to read; nothing is asked of the network yet.

        Raises:
            ConfigError, MissingDependencyError: The URL cannot be opened.
        """
        patience = Patience(settings.attempts, settings.first_pause_seconds, settings.most_pause_seconds)
        self.store = Store(url, patience, settings.timeout_seconds)

    def manifest(self) -> bytes:
        """Its manifest, as it was written. Raises CorpusError if there is none, or it cannot be fetched."""
        content = self.store.patience.result(self.store.shown(MANIFEST_NAME), self._whole_manifest)
        if content is None:
            raise CorpusError(
                f"corpus {self.store} has no {MANIFEST_NAME}; check the address, or copy a prepared corpus there"
            )
        return content

    def _whole_manifest(self) -> bytes | None:
        try:
            content = self.store.read(MANIFEST_NAME)
        except FileNotFoundError:
            return None
        try:
            is_whole = fits_its_checksum(content)
        except ValueError as error:
            raise DamagedBodyError(f"no whole JSON: {error}") from error
        if not is_whole:
            raise DamagedBodyError("it does not fit its own checksum")
        return content

    def tokenizer(self, fingerprint: str) -> dict[str, bytes]:
        """The files of its tokenizer, which has a fingerprint. Raises CorpusError if there is no such one."""
        return self.store.patience.result(self.store.shown(TOKENIZER_FOLDER), lambda: self._tokenizer(fingerprint))

    def _tokenizer(self, fingerprint: str) -> dict[str, bytes]:
        """Files are asked for by their names, as not everybody who may read may also list."""
        files: dict[str, bytes] = {}
        for name in TOKENIZER_FILES:
            try:
                files[name] = self.store.read(f"{TOKENIZER_FOLDER}/{name}")
            except (FileNotFoundError, PermissionError):  # who may not list is not told that there is no such file
                continue
            if is_tokenizer(files, fingerprint):
                return files
        if not files:
            raise FileNotFoundError("there is none of " + ", ".join(TOKENIZER_FILES))
        raise DamagedBodyError("it is not the one that the tokens were made with")

    def fault(self, name: str, entry: ShardEntry | FileEntry) -> str | None:
        """What is wrong with a file, in words; None if nothing is. Of what may be the network's fault, read twice."""
        try:
            what = self.store.shown(name)
            found = self.store.patience.result(what, lambda: self._fault(name, entry))
            return found and self.store.patience.result(what, lambda: self._fault(name, entry))
        except CorpusError as error:
            return str(error)

    def _fault(self, name: str, entry: ShardEntry | FileEntry) -> str | None:
        digest: _Digest = hashlib.sha256() if isinstance(entry, ShardEntry) else xxhash.xxh3_128()
        num_bytes = 0
        try:
            for block in self.store.blocks(name):
                num_bytes += len(block)
                digest.update(block)
        except FileNotFoundError:
            return "is missing"
        if num_bytes != entry.bytes:
            return f"has {num_bytes} bytes, should have {entry.bytes}"
        expected = entry.sha256 if isinstance(entry, ShardEntry) else entry.xxh3
        return None if digest.hexdigest() == expected else "has other bytes than were written"


def is_tokenizer(files: dict[str, bytes], fingerprint: str) -> bool:
    """Whether files have a fingerprint as `pipeline.tokenizer` computes it; of `tokenizer.model` it is the sha256."""
    return fingerprint in (_fingerprint(files), *(hashlib.sha256(content).hexdigest() for content in files.values()))


def _fingerprint(files: dict[str, bytes]) -> str:
    """Of several files."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
