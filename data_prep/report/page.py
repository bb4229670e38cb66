"""The page about a corpus: the figures at its head, and which sections it has."""

from data_prep.report import content, facts, losses
from data_prep.report.collect import CorpusReport
from pipeline.corpus.funnel import added, funnel
from pipeline.corpus.manifest import SPLIT_FOLDERS
from pipeline.runtime.markup import number, percent, short, size
from pipeline.runtime.page import Page, template


def page(report: CorpusReport) -> Page:
    """What the page about a corpus shows."""
    sections = [
        losses.funnels(report),
        facts.splits(report),
        content.lengths(report),
        content.languages(report),
        content.domains(report),
        content.clusters(report),
        facts.time(report),
        losses.rejects(report),
        content.samples(report),
        losses.samples(report),
        facts.tokenizer(report),
        facts.checksums(report),
    ]
    return Page(
        kind="corpus report",
        title=report.name,
        state=_state(report),
        figures=key_figures(report),
        sections=sections,
        style=template("data_prep.report", "corpus.css"),
    )


def _state(report: CorpusReport) -> str:
    sources = ", ".join(source.name for source in report.sources) or "none"
    version = report.manifest.versions.get("tarmac", "of unknown version")
    return f"sources: {sources} · corpus format {report.manifest.format_version} · made by Tarmac {version}"


def key_figures(report: CorpusReport) -> list[tuple[str, str]]:
    """The figures at the head of the page."""
    shards, manifest = report.shards, report.manifest
    tokens, text_bytes = sum(shard.tokens for shard in shards), sum(shard.text_bytes for shard in shards)
    whole = funnel(added(source.figures for source in report.sources))
    return [
        ("documents", short(sum(shard.documents for shard in shards))),
        ("tokens", short(tokens)),
        ("text", size(text_bytes)),
        ("bytes per token", number(text_bytes / tokens if tokens else None, 3)),
        ("shards", f"{number(len(shards))}, {size(sum(shard.bytes for shard in shards))}"),
        *((f"{split} tokens", short(manifest.tokens(split))) for split in SPLIT_FOLDERS if manifest.sources(split)),
        ("vocabulary", number(manifest.tokenizer.vocab_size)),
        ("records kept", percent(whole.kept, whole.records)),
    ]
