"""The manifest of a built corpus."""

import json
from collections import ChainMap
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_prep.built import Built
from data_prep.corpus.existing import config_sha256
from data_prep.corpus.generations import generations
from data_prep.corpus.statistics import content_statistics, corpus_statistics, source_statistics
from data_prep.dedup.exact import DedupTask
from data_prep.dedup.near import DecideTask
from data_prep.encoding.encoder import token_dtype
from data_prep.filters import step_names
from data_prep.plan import SourcePlan, filters_of, read_tasks
from data_prep.shards.task import ShardTask
from data_prep.tasks.code import code_identity
from data_prep.tokenizer.tasks import TOKENIZER_FOLDER, TrainTokenizerTask
from pipeline.config.prep.recipe import PrepConfig
from pipeline.corpus.manifest import (
    FORMAT_VERSION,
    SPLIT_FOLDERS,
    STATISTICS_NAME,
    Manifest,
    ShardEntry,
    Split,
    TokenizerEntry,
)
from pipeline.tokenizer.load import load_tokenizer


def make_manifest(config: PrepConfig, built: Built, work: Path, existing: Manifest | None) -> Manifest:
    """The manifest; what an existing corpus says of its sources stays as it is."""
    tokenizer = load_tokenizer(work / built.tokenizer.folder / TOKENIZER_FOLDER)
    made = existing.statistics["sources"] if existing else {}
    added = {
        one.plan.source.name: {
            **source_statistics(one),
            "steps": step_names(filters_of(config, one.plan.source)),
            "versions": source_versions(config, one.plan),
        }
        for one in built.sources
    }
    sources = added | made
    shards = {split: _entries(built, split) | (existing.sources(split) if existing else {}) for split in SPLIT_FOLDERS}
    flat = {split: [entry for group in entries.values() for entry in group] for split, entries in shards.items()}
    return Manifest(
        format_version=FORMAT_VERSION,
        dtype=token_dtype(tokenizer.vocab_size),
        tokenizer=TokenizerEntry(
            fingerprint=tokenizer.fingerprint(), vocab_size=tokenizer.vocab_size, eos_id=tokenizer.eos_id
        ),
        config_sha256=config_sha256(config),
        versions=existing.versions
        if existing
        else dict(ChainMap(*(figures["versions"] for figures in added.values()))),
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


def source_versions(config: PrepConfig, plan: SourcePlan) -> dict[str, str]:
    """Versions of all that a source is made by: those that the keys of its tasks hold, and ours."""
    makers = [DedupTask, TrainTokenizerTask, ShardTask, *([DecideTask] if config.dedup.minhash else [])]
    modules = {*read_tasks(config, plan)[0].modules, *(maker.__module__ for maker in makers)}
    found = {**code_identity(tuple(sorted(modules))), "tarmac": version("tarmac")}
    return {name: number for name, number in found.items() if name != "code"}


def make_statistics(built: Built, work: Path, output: Path, existing: Manifest | None) -> Mapping[str, Any]:
    """What the documents are; what an existing corpus says of its sources stays as it is."""
    statistics = content_statistics(built, work)
    if existing and (output / STATISTICS_NAME).is_file():
        before = json.loads((output / STATISTICS_NAME).read_bytes())["sources"]
        statistics["sources"] |= {name: before[name] for name in existing.statistics["sources"] if name in before}
    return statistics
