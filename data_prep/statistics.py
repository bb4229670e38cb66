"""What went in, what was dropped and why: figures for the manifest and the table at the end."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from data_prep.dedup.exact import Kept
from data_prep.plan import SourcePlan
from data_prep.read import ReadResult
from pipeline.corpus.manifest import Manifest, ShardEntry, Split
from pipeline.errors import CorpusError

DUPLICATE = "duplicate"


def source_statistics(plan: SourcePlan, read: Sequence[ReadResult], kept: Kept) -> dict[str, Any]:
    """One source's figures."""
    dropped = sum((result.dropped for result in read), Counter[str]())
    if kept.duplicates:
        dropped[DUPLICATE] = kept.duplicates
    return {
        "files": len(plan.files),
        "inputs_sha256": plan.inputs_sha256,
        "read": sum(result.read for result in read),
        "kept": kept.documents,
        "dropped": dict(sorted(dropped.items())),
        "text_bytes": kept.text_bytes,
    }


def require_documents(name: str, figures: Mapping[str, Any]) -> None:
    """Raises CorpusError if a source has no document left, with the reasons and what could be done."""
    if figures["kept"]:
        return
    reasons = ", ".join(f"{reason} {count}" for reason, count in figures["dropped"].items()) or "nothing was read"
    raise CorpusError(
        f"source {name!r} yields no document ({figures['read']} read; {reasons});"
        " give it other inputs, or loosen cleaning or the reader's text_field"
    )


def corpus_statistics(
    sources: Mapping[str, Any], train: Sequence[ShardEntry], validation: Sequence[ShardEntry]
) -> dict[str, Any]:
    """The whole corpus's figures, both splits together."""
    shards = [*train, *validation]
    tokens = sum(shard.tokens for shard in shards)
    text_bytes = sum(shard.text_bytes for shard in shards)
    return {
        "sources": dict(sources),
        "documents": sum(shard.documents for shard in shards),
        "text_bytes": text_bytes,
        "tokens": tokens,
        "bytes_per_token": round(text_bytes / tokens, 4),
        "validation_documents": sum(shard.documents for shard in validation),
    }


def print_table(console: Console, manifest: Manifest, timing: Mapping[str, Any], pairs: Mapping[Split, int]) -> None:
    """The table at the end: what was read, what was dropped and why, and what it became."""
    table = Table(title="corpus", title_justify="left", box=SIMPLE, pad_edge=False)
    for column in ("source", "read", "kept", "held out", "text MB", "tokens", "bytes per token", "shards"):
        table.add_column(column, justify="left" if column == "source" else "right")
    sources = manifest.statistics["sources"]
    for name, figures in sources.items():
        table.add_row(*_row(name, figures, manifest.train[name], manifest.validation.get(name, [])))
    console.print(table)
    for name, figures in sources.items():
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in figures["dropped"].items())
        console.print(f"dropped from {name}: {reasons or 'nothing'}", highlight=False)
    if pairs:
        console.print(f"pairs: {pairs['train']:,} to learn, {pairs['validation']:,} held out", highlight=False)
    seconds = sum(timing["seconds"].values())
    speed = f"{timing['megabytes_per_second']:.2f} MB/s with {timing['workers']} workers"
    console.print(f"tokenizer: {manifest.tokenizer.vocab_size:,} pieces\n{seconds:.1f} s, {speed}", highlight=False)


def _row(
    name: str, figures: Mapping[str, Any], train: Sequence[ShardEntry], validation: Sequence[ShardEntry]
) -> list[str]:
    tokens = sum(shard.tokens for shard in [*train, *validation])
    return [
        name,
        f"{figures['read']:,}",
        f"{figures['kept']:,}",
        f"{sum(shard.documents for shard in validation):,}",
        f"{figures['text_bytes'] / 1e6:.2f}",
        f"{tokens:,}",
        f"{figures['text_bytes'] / tokens:.3f}",
        f"{len(train)} + {len(validation)}",
    ]
