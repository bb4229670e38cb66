"""What went in, what was dropped and why, what it became: figures for the manifest and for `stats.json`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.built import Built, BuiltSource
from data_prep.corpus.existing import source_sha256
from data_prep.reading.demands import losses
from data_prep.reading.inputs import contents_sha256
from data_prep.reading.losses import SAMPLES_NAME, Line, lowest
from data_prep.shards.statistics import ShardStatistics
from data_prep.tasks.counts import total
from pipeline.corpus.manifest import ShardEntry, Split
from pipeline.runtime.files import read_json_lines

_MOST_DOMAINS = 100


def source_statistics(source: BuiltSource) -> dict[str, Any]:
    """One source's figures: the same for the same inputs, wherever they lie."""
    reads = [done.result for done in source.reads]
    shards = [done.result for group in source.shards.values() for done in group]
    return {
        "files": len(source.plan.files),
        "inputs_sha256": contents_sha256(read.inputs for read in reads),
        "config_sha256": source_sha256(source.plan),
        "read": sum(read.read for read in reads),
        "rejected": total(read.rejected for read in reads),
        "skipped": total(read.skipped for read in reads),
        "dropped": {**total(read.dropped for read in reads), **losses(source.kept)},
        "kept": source.kept.documents,
        "text_bytes": source.kept.text_bytes,
        "encoders": total({shard.encoder: 1} for shard in shards if shard.entry),
        "re_encoded_shards": sum(shard.re_encoded for shard in shards),
    }


def corpus_statistics(sources: Mapping[str, Any], shards: Mapping[Split, Sequence[ShardEntry]]) -> dict[str, Any]:
    """The whole corpus's figures, all splits together."""
    every = [shard for group in shards.values() for shard in group]
    tokens, text_bytes = sum(shard.tokens for shard in every), sum(shard.text_bytes for shard in every)
    return {
        "sources": dict(sources),
        "documents": sum(shard.documents for shard in every),
        "text_bytes": text_bytes,
        "tokens": tokens,
        "bytes_per_token": round(text_bytes / tokens, 4),
        "validation_documents": sum(shard.documents for shard in shards["validation"]),
        "test_documents": sum(shard.documents for shard in shards["test"]),
    }


def dropped_samples(source: BuiltSource, work: Path) -> list[Line]:
    """A few of the documents that each filter dropped."""
    by_reason: defaultdict[str, list[Line]] = defaultdict(list)
    for done in source.reads:
        for line in read_json_lines(work / done.folder / SAMPLES_NAME):
            by_reason[line["reason"]] = lowest([*by_reason[line["reason"]], line])
    return [line for _, lines in sorted(by_reason.items()) for line in lines]


def content_statistics(built: Built, work: Path) -> dict[str, Any]:
    """What the documents are: lengths, languages, domains, samples; by source."""
    clusters = {str(size): count for size, count in sorted(built.near.clusters.items())}
    sources = {
        one.plan.source.name: {**_content(one), "dropped_samples": dropped_samples(one, work)} for one in built.sources
    }
    return {"near_duplicate_clusters": clusters, "sources": sources}


def _content(source: BuiltSource) -> dict[str, Any]:
    found: list[ShardStatistics] = [done.result.statistics for group in source.shards.values() for done in group]
    lengths = total({f"{power:02d}": count for power, count in one.lengths.items()} for one in found)
    domains = total(one.domains for one in found)
    return {
        "documents_by_tokens": [_length_row(int(power), count) for power, count in lengths.items()],
        "languages": _commonest(total(one.languages for one in found)),
        "domains": _commonest(domains),
        "samples": [text for one in found for text in one.samples][:8],
    }


def _length_row(power: int, documents: int) -> dict[str, int]:
    """Documents of `from` up to and without `below` tokens."""
    return {"from": 1 << power - 1, "below": 1 << power, "documents": documents}


def _commonest(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_DOMAINS])
