"""`manifest.json`: what a corpus holds, which tokenizer and versions made it, and every shard's checksum."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import CorpusError
from pipeline.runtime.files import write_json

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
STATISTICS_NAME = "stats.json"
"""Figures of what the documents are, for people."""
PREP_NAME = "prep.json"
"""Figures of the run that made the corpus, and what its inputs were: names, sizes and times, which say nothing of its
content and so are no part of the manifest."""

_CHECKSUM = "sha256"
"""The key of the manifest's checksum of itself."""

Split = Literal["train", "validation", "test"]
SPLIT_FOLDERS: dict[Split, str] = {"train": "shards", "validation": "validation", "test": "test"}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardEntry:
    """One tarball. Corpora have many thousands, of which pydantic's own models would take thrice the time to read."""

    __pydantic_config__ = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: str
    """File name inside the source's folder."""
    bytes: int
    """File size."""
    sha256: str
    """Checksum of the file."""
    tokens: int
    """Tokens, EOS included."""
    documents: int
    """Documents."""
    text_bytes: int
    """UTF-8 bytes of the documents' text."""
    chunks: int
    """webdataset samples."""


class FileEntry(_Record):
    """A file that is no part of the training data."""

    bytes: int
    """File size."""
    xxh3: str
    """128-bit checksum of the file."""


class TokenizerEntry(_Record):
    """The tokenizer the tokens were made with."""

    fingerprint: str
    """sha256 over its files."""
    vocab_size: int
    """Number of ids."""
    eos_id: int
    """Id that closes each document."""


class Manifest(_Record):
    """The whole corpus."""

    format_version: int
    """Version of this form; version n reads n - 1."""
    dtype: Literal["uint16", "uint32"]
    """Type of the tokens."""
    tokenizer: TokenizerEntry
    """The tokenizer."""
    config_sha256: str
    """Checksum of the config that made it."""
    versions: dict[str, str]
    """Versions of the libraries that made it."""
    train: dict[str, list[ShardEntry]]
    """Shards of each source."""
    validation: dict[str, list[ShardEntry]]
    """Shards of each source, held out for validation."""
    test: dict[str, list[ShardEntry]] = {}
    """Shards of each source, held out for tests; new in version 2."""
    files: dict[str, FileEntry] = {}
    """Pairs, rejects, dropped documents and `stats.json`, by their path in the folder; new in version 2."""
    statistics: dict[str, Any] = {}
    """What went in, what was dropped and why."""

    def sources(self, split: Split) -> dict[str, list[ShardEntry]]:
        """The shards of each source in a split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]

    def shards(self, split: Split, source: str) -> list[ShardEntry]:
        """A source's shards in a split. Raises CorpusError if there is no such source."""
        sources = self.sources(split)
        if source not in sources:
            raise CorpusError(f"source {source!r} is not in the corpus; it has {', '.join(sorted(sources)) or 'none'}")
        return sources[source]

    def tokens(self, split: Split) -> int:
        """Tokens of all sources in a split."""
        return sum(shard.tokens for shards in self.sources(split).values() for shard in shards)

    def fingerprint(self, split: Split, source: str, num_shards: int | None = None) -> str:
        """sha256 over a source's shards, or over the first so many: equal exactly when their bytes are."""
        text = "\n".join(f"{shard.name} {shard.sha256}" for shard in self.shards(split, source)[:num_shards])
        return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(folder: str | Path, manifest: Manifest) -> None:
    """Write `manifest.json` with its own checksum; it goes last, since it says that the corpus is complete."""
    values = manifest.model_dump(mode="json")
    write_json(Path(folder) / MANIFEST_NAME, {**values, _CHECKSUM: _checksum(values)})


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of a corpus. Raises CorpusError if it is missing, damaged or of a newer version."""
    path = Path(folder) / MANIFEST_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CorpusError(f"corpus {folder} has no {MANIFEST_NAME}; prepare it with `tarmac prep`") from error
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error}); prepare the corpus again") from error
    return parse_manifest(content, str(path))


def parse_manifest(content: bytes, path: str) -> Manifest:
    """A manifest that was read from a path or URL. Raises CorpusError if it is damaged or of a newer version."""
    try:
        values = json.loads(content)
    except ValueError as error:
        raise CorpusError(f"{path} cannot be read ({error}); prepare the corpus again") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if version not in (FORMAT_VERSION - 1, FORMAT_VERSION):
        raise CorpusError(
            f"{path}: format_version is {version!r}; this Tarmac reads {FORMAT_VERSION - 1} and {FORMAT_VERSION}"
        )
    if not _fits(values):
        raise CorpusError(f"{path} is damaged: it does not fit its own checksum; prepare the corpus again")
    values.pop(_CHECKSUM, None)
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        raise CorpusError(f"{path} is damaged: {error.errors()[0]['msg']}; prepare the corpus again") from error
    if strange := [name for name in _names(manifest) if name in ("", ".", "..") or set(name) & set("/\\\0")]:
        raise CorpusError(
            f"{path} has {strange[0]!r} where the name of a file or source belongs; `tarmac prep` did not write that,"
            " so do not read the corpus unless you know who did"
        )
    return manifest


def _names(manifest: Manifest) -> Iterator[str]:
    """All that becomes part of a path, here or in a cache: who wrote a manifest must not choose a folder by it."""
    for path in manifest.files:
        yield from path.split("/")
    for split in SPLIT_FOLDERS:
        for source, shards in manifest.sources(split).items():
            yield source
            yield from (name for shard in shards for name in (shard.name, shard.sha256))


def fits_its_checksum(content: bytes) -> bool:
    """Whether bytes are a manifest of any version that is as it was written, as far as it can tell: the first cannot.

    Raises:
        ValueError: They are no JSON.
    """
    values = json.loads(content)
    return isinstance(values, dict) and _fits(values)


def _fits(values: dict[str, Any]) -> bool:
    expected = values.get(_CHECKSUM)  # version 1 has none
    return expected in (None, _checksum({key: value for key, value in values.items() if key != _CHECKSUM}))


def _checksum(values: dict[str, Any]) -> str:
    """sha256 over what a manifest says, in whatever order and with whatever white space."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
