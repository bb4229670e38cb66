"""The sections on shards, time, tokenizer and checksums: tables of plain facts."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from data_prep.report.collect import CorpusReport
from pipeline.corpus.manifest import SPLIT_FOLDERS, ShardEntry
from pipeline.runtime.bars import Bar, bars
from pipeline.runtime.markup import duration, facts, number, paragraph, percent, section, size, table


def splits(report: CorpusReport) -> str:
    """What each source has in each split."""
    rows = [(one.name, split, *_totals(shards)) for one in report.sources for split, shards in one.shards.items()]
    if len(report.sources) > 1:
        every = {split: list(chain(*report.manifest.sources(split).values())) for split in SPLIT_FOLDERS}
        rows += [("all", split, *_totals(shards)) for split, shards in every.items() if shards]
    heads = ("source", "split", "documents", "tokens", "text", "bytes per token", "shards", "size of shards")
    return section("splits", "Sources and splits", table("Sources and splits", heads, rows, "There are no shards."))


def _totals(shards: Sequence[ShardEntry]) -> tuple[str, ...]:
    tokens, text_bytes = sum(shard.tokens for shard in shards), sum(shard.text_bytes for shard in shards)
    return (
        number(sum(shard.documents for shard in shards)),
        number(tokens),
        size(text_bytes),
        number(text_bytes / tokens if tokens else None, 3),
        number(len(shards)),
        size(sum(shard.bytes for shard in shards)),
    )


def time(report: CorpusReport) -> str:
    """Where the time of the last run went."""
    seconds: dict[str, float] = report.timing.get("seconds", {})
    if not seconds:
        return section("time", "Time", paragraph("prep.json, which says how long it took, is not in the folder."))
    whole, longest = sum(seconds.values()), max(seconds.values()) or 1
    totals = [
        ("altogether", duration(whole)),
        ("text read, MB/s", number(report.timing.get("megabytes_per_second"), 2)),
        ("workers", number(report.timing.get("workers"))),
        ("tasks run", f"{_all_phases(report, 'tasks_run')} of {_all_phases(report, 'tasks')}"),
    ]
    rows = [
        Bar(phase, (duration(value), percent(value, whole)), value / longest)
        for phase, value in sorted(seconds.items(), key=lambda item: -item[1])
    ]
    told = bars("Time of each phase", ("phase", "took", "share"), rows)
    return section("time", "Time of the last run", facts(totals, "facts") + told)


def _all_phases(report: CorpusReport, name: str) -> str:
    return number(sum(report.timing.get(name, {}).values()))


def tokenizer(report: CorpusReport) -> str:
    """Which tokenizer the tokens are of, and what encoded them."""
    made = report.manifest.tokenizer
    encoders = Counter[str]()
    for source in report.sources:
        encoders.update(source.figures.get("encoders", {}))
    pairs = [
        ("vocabulary", number(made.vocab_size)),
        ("id that ends a document", str(made.eos_id)),
        ("type of the tokens", report.manifest.dtype),
        ("files", ", ".join(report.tokenizer_files) or "not in the folder"),
        *((f"shards encoded by {name}", number(count)) for name, count in sorted(encoders.items())),
        ("shards encoded again", number(sum(source.figures.get("re_encoded_shards", 0) for source in report.sources))),
        ("fingerprint", made.fingerprint),
    ]
    return section("tokenizer", "Tokenizer", facts(pairs, "facts"))


def checksums(report: CorpusReport) -> str:
    """What made the corpus, and what it can be told by."""
    manifest = report.manifest
    rows = [("–", "config", manifest.config_sha256)]
    for source in report.sources:
        kinds = {"config": "config_sha256", "inputs": "inputs_sha256"}
        rows += [(source.name, kind, source.figures[key]) for kind, key in kinds.items() if key in source.figures]
        rows += [(source.name, f"{split} shards", manifest.fingerprint(split, source.name)) for split in source.shards]
    told = table("Checksums", ("source", "of", "sha256"), rows)
    return section("checksums", "Versions and checksums", _versions(report) + told)


def _versions(report: CorpusReport) -> str:
    """Versions of what made the corpus, and which others made sources that were appended later."""
    versions = report.manifest.versions
    others = [
        (source.name, name, number)
        for source in report.sources
        for name, number in sorted(source.figures.get("versions", {}).items())
        if versions.get(name) != number
    ]
    told = table("Versions of sources appended later", ("source", "of", "version"), others) if others else ""
    return facts(sorted(versions.items()), "facts") + told
