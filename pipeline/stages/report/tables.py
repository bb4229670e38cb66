"""The parts of the report below the charts."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Any

from pipeline.config.data import CorpusData
from pipeline.corpus.manifest import Manifest, ShardEntry
from pipeline.runtime.markup import (
    NONE_YET,
    duration,
    facts,
    fold,
    moment,
    number,
    paragraph,
    section,
    short,
    size,
    table,
)
from pipeline.stages.report.collect import CorpusFacts, RunReport
from pipeline.stages.report.history import Row, Session

MAX_SAMPLES = 40


def evaluations(report: RunReport) -> str:
    """What `tarmac eval` measured, and the validation inside the loop."""
    measured = [
        (
            number(row["step"]),
            f"{row['set']} (average of the weights)" if row.get("ema") else row["set"],
            number(row["loss"], 4),
            number(row["perplexity"], 2),
            number(row["bits_per_byte"], 4),
            number(row["tokens"]),
            number(_ratio(row), 3),
        )
        for row in report.evaluations
    ]
    inside = [
        (
            number(row["step"]),
            number(row["validation/loss"], 4),
            number(row.get("validation/bits_per_byte"), 4),
            number(row.get("validation/tokens")),
        )
        for row in report.validation
    ]
    heads = ("step", "set", "loss", "perplexity", "bits per byte", "tokens", "loss ÷ unigram")
    return section(
        "evaluations",
        "Evaluations",
        table("Evaluations", heads, measured)
        + "<h3>Validation during training</h3>"
        + table("Validation during training", ("step", "loss", "bits per byte", "tokens"), inside),
    )


def _ratio(row: Row) -> float | None:
    return row["loss"] / row["unigram_loss"] if row.get("unigram_loss") else None


def checkpoints(report: RunReport) -> str:
    """What was saved, and what of it is still there."""
    rows = [
        (number(one.step), moment(one.time), size(one.bytes), duration(one.seconds), one.state)
        for one in report.checkpoints
    ]
    return section(
        "checkpoints", "Checkpoints", table("Checkpoints", ("step", "saved (UTC)", "size", "took", "state"), rows)
    )


def restarts(report: RunReport) -> str:
    """How often the run began anew, and what each time cost."""
    rows = [_restart(before, after) for before, after in pairwise(report.sessions)]
    heads = ("restarted (UTC)", "from step", "ranks", "steps done again", "standstill", "ended before by")
    return section("restarts", "Restarts", table("Restarts", heads, rows))


def _restart(before: Session, after: Session) -> tuple[str, ...]:
    ranks = (
        str(after.world_size) if after.world_size == before.world_size else f"{before.world_size} → {after.world_size}"
    )
    return (
        moment(after.started),
        number(after.step),
        ranks,
        number(max(0, before.last_step - after.step)),
        duration(after.started - before.ended),
        before.reason or "a kill or a crash",
    )


def corpora(report: RunReport) -> str:
    """What the run read."""
    data = report.config.data
    if data.type == "instruct":
        pairs = [("train", data.train), ("validation", data.validation)]
        return section("corpus", "Conversations", facts(pairs, "facts"))
    return section("corpus", "Corpus", "".join(_corpus(corpus, _shares(data)) for corpus in report.corpora))


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
    return heading + facts(_totals(corpus.manifest), "facts") + _sources(corpus.folder, corpus.manifest, shares)


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


def samples(report: RunReport) -> str:
    """What the model wrote, the newest first."""
    shown = report.samples[: -MAX_SAMPLES - 1 : -1]
    left_out = len(report.samples) - len(shown)
    more = paragraph(f"{left_out} older ones are in samples.jsonl.") if left_out else ""
    return section("samples", "Samples", ("".join(_sample(row) for row in shown) or paragraph(NONE_YET)) + more)


def _sample(row: Row) -> str:
    about = f"step {number(row['step'])}, temperature {row['temperature']}, seed {row['seed']}"
    return (
        f'<figure class="sample"><figcaption>{escape(about)}</figcaption>'
        f"<pre><b>{escape(row['prompt'])}</b>{escape(row['continuation'])}</pre></figure>"
    )


def settings(report: RunReport) -> str:
    """The resolved config and the machine."""
    environment = report.environment
    pairs = [(name, _plain(value)) for name, value in environment.items() if name != "versions"]
    versions = [(name, str(value)) for name, value in sorted(environment.get("versions", {}).items())]
    return section(
        "config",
        "Settings",
        fold("Resolved config", f"<pre><code>{escape(report.config_text)}</code></pre>")
        + fold(
            "Machine and versions", facts([*pairs, *versions], "facts") if pairs or versions else paragraph(NONE_YET)
        ),
    )


def _plain(value: Any) -> str:
    return short(value) if isinstance(value, int | float) and abs(value) >= 10_000 else str(value)
