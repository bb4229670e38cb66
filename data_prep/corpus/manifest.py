"""The manifest of a built corpus."""

import json
from collections import ChainMap
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_prep.built import Built, BuiltSource
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
    added = {one.plan.source.name: _source_figures(config, one) for one in built.sources}
    shards = {split: _entries(built, split) | (existing.sources(split) if existing else {}) for split in SPLIT_FOLDERS}
    versions = existing.versions if existing else dict(ChainMap(*(figures["versions"] for figures in added.values())))
    return Manifest(
        format_version=FORMAT_VERSION,
        dtype=token_dtype(tokenizer.vocab_size),
        tokenizer=TokenizerEntry(
            fingerprint=tokenizer.fingerprint(), vocab_size=tokenizer.vocab_size, eos_id=tokenizer.eos_id
        ),
        config_sha256=config_sha256(config),
        versions=versions,
        statistics=_statistics(added, existing, shards),
        **shards,
    )


def _source_figures(config: PrepConfig, source: BuiltSource) -> dict[str, Any]:
    steps = step_names(filters_of(config, source.plan.source))
    return {**source_statistics(source), "steps": steps, "versions": source_versions(config, source.plan)}


def _statistics(
    added: Mapping[str, Any], existing: Manifest | None, shards: Mapping[Split, Mapping[str, list[ShardEntry]]]
) -> dict[str, Any]:
    made: dict[str, Any] = existing.statistics["sources"] if existing else {}
    flat = {split: [entry for group in entries.values() for entry in group] for split, entries in shards.items()}
    return {
        "generations": [*generations(existing), [name for name in added if name not in made]],
        **corpus_statistics({**added, **made}, flat),
    }


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
