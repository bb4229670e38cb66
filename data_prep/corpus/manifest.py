"""The manifest of a built corpus."""

import json
import platform
import unicodedata
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_prep.build import Built
from data_prep.corpus.existing import config_sha256
from data_prep.corpus.generations import generations
from data_prep.corpus.statistics import content_statistics, corpus_statistics, source_statistics
from data_prep.encoding.encoder import token_dtype
from data_prep.tokenizer.tasks import TOKENIZER_FOLDER
from pipeline.config.prep.recipe import PrepConfig
from pipeline.corpus.manifest import FORMAT_VERSION, SPLIT_FOLDERS, Manifest, ShardEntry, Split, TokenizerEntry
from pipeline.tokenizer.load import load_tokenizer

STATISTICS_NAME = "stats.json"
_LIBRARIES = ("tarmac", "numpy", "sentencepiece", "tokenizers", "xxhash")
"""Libraries that every corpus's bytes depend on."""


def make_manifest(config: PrepConfig, built: Built, work: Path, existing: Manifest | None) -> Manifest:
    """The manifest; what an existing corpus says of its sources stays as it is."""
    tokenizer = load_tokenizer(work / built.tokenizer.folder / TOKENIZER_FOLDER)
    made = existing.statistics["sources"] if existing else {}
    sources = {one.plan.source.name: source_statistics(one) for one in built.sources} | made
    shards = {split: _entries(built, split) | (existing.sources(split) if existing else {}) for split in SPLIT_FOLDERS}
    flat = {split: [entry for group in entries.values() for entry in group] for split, entries in shards.items()}
    return Manifest(
        format_version=FORMAT_VERSION,
        dtype=token_dtype(tokenizer.vocab_size),
        tokenizer=TokenizerEntry(
            fingerprint=tokenizer.fingerprint(), vocab_size=tokenizer.vocab_size, eos_id=tokenizer.eos_id
        ),
        config_sha256=config_sha256(config),
        versions=_versions(),
        statistics={
            "generations": [*generations(existing), [name for name in sources if name not in made]],
            **corpus_statistics(sources, flat),
        },
        **shards,
    )


def _entries(built: Built, split: Split) -> dict[str, list[ShardEntry]]:
    found = {
        one.plan.source.name: [done.result.entry for done in one.shards.get(split, ()) if done.result.entry]
        for one in built.sources
    }
    return {name: entries for name, entries in found.items() if entries}


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
        **{library: version(library) for library in _LIBRARIES},
    }


def make_statistics(built: Built, work: Path, output: Path, existing: Manifest | None) -> Mapping[str, Any]:
    """What the documents are; what an existing corpus says of its sources stays as it is."""
    statistics = content_statistics(built, work)
    if existing and (output / STATISTICS_NAME).is_file():
        before = json.loads((output / STATISTICS_NAME).read_bytes())["sources"]
        statistics["sources"] |= {name: before[name] for name in existing.statistics["sources"] if name in before}
    return statistics
