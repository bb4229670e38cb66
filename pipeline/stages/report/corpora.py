"""The sections on what a run reads: its corpora, their sources, and what became of these sources' records."""

from collections.abc import Sequence
from html import escape
from typing import Any

from pipeline.config.data import CorpusData
from pipeline.corpus.funnel_bars import FUNNEL_LEGEND, funnel_bars
from pipeline.corpus.manifest import Manifest, ShardEntry
from pipeline.runtime.markup import facts, number, paragraph, section, size, table
from pipeline.stages.report.collect import CorpusFacts, RunReport


def corpora(report: RunReport) -> str:
    """What the run read."""
    data = report.config.data
    if data.type == "instruct":
        pairs = [("train", data.train), ("validation", data.validation)]
        return section(f"{report.anchor}corpus", "Conversations", facts(pairs, "facts"))
    told = "".join(_corpus(corpus, _shares(data)) for corpus in report.corpora)
    return section(f"{report.anchor}corpus", "Corpus", told)


def _shares(data: CorpusData) -> dict[tuple[str, str], str]:
    """How much of the mixture each (corpus, source) is at the beginning: its share, or what decides that."""
    weights = {(one.corpus, one.source): 1.0 if one.weight is None else one.weight for one in data.sources}
    if data.temperature is not None:
        return {key: f"weight {weight:g}" for key, weight in weights.items()}
    shares = {key: f"{weight / sum(weights.values()):.1%}" for key, weight in weights.items()}
    epochs = {(one.corpus, one.source): one.epochs for one in data.sources}
    return {key: share if epochs[key] is None else f"{epochs[key]:g} epochs" for key, share in shares.items()}


def _corpus(corpus: CorpusFacts, shares: dict[tuple[str, str], str]) -> str:
    heading = f"<h3><code>{escape(corpus.folder)}</code></h3>"
    if corpus.manifest is None:
        return heading + paragraph(f"Not shown: {corpus.fault}.")
    manifest = corpus.manifest
    told = facts(_totals(manifest), "facts") + _sources(corpus.folder, manifest, shares)
    return heading + told + _funnels(manifest, [name for name in manifest.train if (corpus.folder, name) in shares])


def _funnels(manifest: Manifest, names: Sequence[str]) -> str:
    """From the records met to the documents kept, of the sources that the run reads."""
    statistics: dict[str, Any] = manifest.statistics.get("sources", {})
    told = (f"<h3>{escape(name)}</h3>" + funnel_bars(name, statistics[name]) for name in names if name in statistics)
    return FUNNEL_LEGEND + "".join(told)


def _totals(manifest: Manifest) -> list[tuple[str, str]]:
    shards = [shard for sources in (manifest.train, manifest.validation) for one in sources.values() for shard in one]
    tokens, text_bytes = sum(shard.tokens for shard in shards), sum(shard.text_bytes for shard in shards)
    return [
        ("training tokens", number(manifest.tokens("train"))),
        ("validation tokens", number(manifest.tokens("validation"))),
        ("documents", number(sum(shard.documents for shard in shards))),
        ("text", size(text_bytes)),
        ("bytes per token", number(text_bytes / tokens if tokens else None, 2)),
        ("shards", f"{len(shards)}, {size(sum(shard.bytes for shard in shards))}"),
        ("vocabulary", number(manifest.tokenizer.vocab_size)),
        ("tokenizer", manifest.tokenizer.fingerprint[:12]),
    ]


def _sources(folder: str, manifest: Manifest, shares: dict[tuple[str, str], str]) -> str:
    statistics: dict[str, Any] = manifest.statistics.get("sources", {})
    rows = [
        (name, shares.get((folder, name), "not used"), *_source(manifest.train[name], statistics.get(name, {})))
        for name in sorted(manifest.train)
    ]
    heads = ("source", "share", "tokens", "documents", "read", "dropped, and why")
    return table(f"Sources of {folder}", heads, rows)


def _source(shards: Sequence[ShardEntry], statistics: dict[str, Any]) -> tuple[str, ...]:
    dropped: dict[str, int] = statistics.get("dropped", {})
    reasons = ", ".join(
        f"{number(count)} {reason}" for reason, count in sorted(dropped.items(), key=lambda item: -item[1])
    )
    return (
        number(sum(shard.tokens for shard in shards)),
        number(sum(shard.documents for shard in shards)),
        number(statistics.get("read")),
        reasons or "–",
    )
