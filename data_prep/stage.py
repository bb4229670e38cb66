"""The stage: gather documents, train the tokenizer, write shards and pairs, commit."""

import hashlib
import json
import platform
import shutil
import unicodedata
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from data_prep.executor import Executor
from data_prep.gather import Gathered, gather
from data_prep.output import finished_corpus, partial_folder
from data_prep.pairs import PairTask, bucket_pairs, write_pairs
from data_prep.plan import SourcePlan, plan_sources
from data_prep.shards import make_shard, shard_tasks, token_dtype
from data_prep.statistics import corpus_statistics, print_table
from data_prep.tokenizer import SampledSource, make_tokenizer
from pipeline.config.prep import GivenTokenizer, PrepConfig, TrainTokenizer
from pipeline.corpus.manifest import FORMAT_VERSION, Manifest, ShardEntry, Split, TokenizerEntry, write_manifest
from pipeline.errors import CorpusError
from pipeline.runtime.files import write_json
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.load import load_tokenizer

_LIBRARIES = ("tarmac", "numpy", "sentencepiece", "tokenizers", "xxhash")
"""Libraries that a corpus's bytes depend on."""

Shards = dict[Split, dict[str, list[ShardEntry]]]


def prep(config: PrepConfig, console: Console | None = None) -> Path:
    """Prepare a corpus and return its folder; does nothing if it is there already.

    Args:
        config: What to prepare.
        console: Where progress and the table go; standard error if not given.

    Raises:
        ConfigError: The output is something else, or an input is missing.
        CorpusError: An input cannot be read, a source yields no document, or the output cannot be written.
        TokenizerError: The tokenizer cannot be loaded or trained.
    """
    console = console or Console(stderr=True)
    output = Path(config.output).absolute()
    if isinstance(config.tokenizer, GivenTokenizer):
        load_tokenizer(config.tokenizer.path)  # a wrong path is better told now than after hours of reading
    plans = plan_sources(config)
    inputs = {plan.source.name: plan.inputs_sha256 for plan in plans}
    if finished_corpus(output, config_sha256(config), inputs):
        console.print(f"{config.output} is already prepared by this config", highlight=False)
        return output
    try:
        with partial_folder(output) as folder, Executor(config.executor, console) as executor:
            manifest, timing, pairs = _build(config, plans, folder, executor)
    except OSError as error:  # inputs have errors of their own, so this is the output's disk
        raise CorpusError(
            f"output ({config.output}) cannot be written: {error.strerror or error};"
            " make room or choose another folder, then prepare again"
        ) from error
    print_table(console, manifest, timing, pairs)
    return output


def config_sha256(config: PrepConfig) -> str:
    """Checksum of all that decides a corpus's content: the config without output and executor."""
    values = config.model_dump(mode="json", exclude={"output", "executor"})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode("utf-8")).hexdigest()


def _build(
    config: PrepConfig, plans: Sequence[SourcePlan], folder: Path, executor: Executor
) -> tuple[Manifest, dict[str, Any], dict[Split, int]]:
    """Fill a corpus folder; the manifest goes last."""
    scratch = folder / "scratch"
    gathered = gather(config, plans, scratch, executor)
    tokenizer = executor.run_here("tokenizer", lambda: make_tokenizer(config.tokenizer, _samples(config, gathered)))
    tokenizer.save(folder / "tokenizer")
    shards = _write_shards(config, gathered, folder, executor)
    pairs = _write_pairs(config, gathered, folder, executor) if config.pairs.enabled else {}
    shutil.rmtree(scratch)
    manifest = _manifest(config, gathered, tokenizer, shards)
    timing = _timing(executor, sum(one.read_bytes for one in gathered))
    write_json(folder / "prep.json", timing)
    write_manifest(folder, manifest)
    return manifest, timing, pairs


def _samples(config: PrepConfig, gathered: Sequence[Gathered]) -> list[SampledSource]:
    """Each source's part of the tokenizer's sample, in proportion to its text."""
    if not isinstance(config.tokenizer, TrainTokenizer):
        return []
    total = sum(one.figures["text_bytes"] for one in gathered)
    budget = min(config.tokenizer.sample_bytes, total)
    return [SampledSource(one.source, budget * one.figures["text_bytes"] // total) for one in gathered]


def _write_shards(config: PrepConfig, gathered: Sequence[Gathered], folder: Path, executor: Executor) -> Shards:
    chunk_tokens = config.shards.chunk_tokens
    tasks = [
        task
        for one in gathered
        for task in shard_tasks(folder, one.source, one.plan.num_validation_shards, chunk_tokens)
    ]
    shards: Shards = {"train": {}, "validation": {}}
    for task, shard in zip(tasks, executor.run("shards", make_shard, tasks), strict=True):
        if shard:
            shards[task.split].setdefault(task.source.name, []).append(shard)
    return shards


def _write_pairs(
    config: PrepConfig, gathered: Sequence[Gathered], folder: Path, executor: Executor
) -> dict[Split, int]:
    tasks = [
        PairTask(one.source, bucket, config.pairs.max_answer_characters)
        for one in gathered
        for bucket in range(one.source.num_buckets)
    ]
    return write_pairs(folder / "pairs", executor.run("pairs", bucket_pairs, tasks), config.seed)


def _manifest(config: PrepConfig, gathered: Sequence[Gathered], tokenizer: Tokenizer, shards: Shards) -> Manifest:
    sources = {one.source.name: one.figures for one in gathered}
    train, validation = ([shard for group in shards[split].values() for shard in group] for split in shards)
    return Manifest(
        format_version=FORMAT_VERSION,
        dtype=token_dtype(tokenizer.vocab_size),
        tokenizer=TokenizerEntry(
            fingerprint=tokenizer.fingerprint(), vocab_size=tokenizer.vocab_size, eos_id=tokenizer.eos_id
        ),
        config_sha256=config_sha256(config),
        versions=_versions(),
        train=shards["train"],
        validation=shards["validation"],
        statistics=corpus_statistics(sources, train, validation),
    )


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
        **{library: version(library) for library in _LIBRARIES},
    }


def _timing(executor: Executor, read_bytes: int) -> dict[str, Any]:
    seconds = sum(executor.seconds.values())
    return {
        "seconds": {phase: round(value, 3) for phase, value in executor.seconds.items()},
        "megabytes_per_second": round(read_bytes / 1e6 / seconds, 3),
        "workers": executor.workers,
    }
