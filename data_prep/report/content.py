"""The sections on what the documents are."""

from data_prep.report.collect import CorpusReport, SourceFacts
from data_prep.report.parts import first_of, panels, sample
from pipeline.runtime.bars import Bar, bars, commonest, count_bars
from pipeline.runtime.markup import facts, number, paragraph, section

MAX_ROWS = 20
"""Languages and domains shown of each source."""
_SAMPLES_SHOWN = 2


def lengths(report: CorpusReport) -> str:
    """How many documents have how many tokens."""
    return section("lengths", "Document lengths", panels(report.sources, _lengths, "No lengths were counted."))


def _lengths(source: SourceFacts) -> str:
    found: list[dict[str, int]] = source.content.get("documents_by_tokens", [])
    counts = [(_span(row["from"], row["below"] - 1), row["documents"]) for row in found]
    rows = count_bars(counts, sum(count for _, count in counts))
    return bars(f"Lengths of {source.name}", ("tokens", "documents", "share"), rows) if rows else ""


def _span(first: int, last: int) -> str:
    return number(first) if first == last else f"{number(first)} – {number(last)}"


def languages(report: CorpusReport) -> str:
    """The commonest languages of each source."""
    empty = "No filter looked for languages."
    return section("languages", "Languages", _commonest(report, "languages", "language", empty))


def domains(report: CorpusReport) -> str:
    """The commonest domains of each source."""
    empty = "No document has an address."
    return section("domains", "Domains", _commonest(report, "domains", "domain", empty))


def _commonest(report: CorpusReport, key: str, head: str, empty: str) -> str:
    def told(source: SourceFacts) -> str:
        found: dict[str, int] = source.content.get(key, {})
        counts = commonest(found)[:MAX_ROWS]
        if not counts:
            return ""
        rows = count_bars(counts, source.documents)
        note = paragraph(f"The {MAX_ROWS} commonest; more are in stats.json.") if len(found) > MAX_ROWS else ""
        return bars(f"{head}s of {source.name}", (head, "documents", "share"), rows) + note

    return panels(report.sources, told, empty)


def clusters(report: CorpusReport) -> str:
    """How large clusters of near-duplicates are."""
    found = report.clusters
    if not found:
        return section("clusters", "Near-duplicates", paragraph("No near-duplicates were found, or none looked for."))
    totals = [
        ("clusters", number(sum(found.values()))),
        ("documents in them", number(sum(size * count for size, count in found.items()))),
        ("largest cluster", number(max(found))),
    ]
    heads = ("documents in a cluster", "clusters", "documents")
    table = bars("Clusters of near-duplicates", heads, _cluster_bars(found))
    return section("clusters", "Near-duplicates", facts(totals, "facts") + table)


def _cluster_bars(found: dict[int, int]) -> list[Bar]:
    """Clusters by size: 2, 3 to 4, 5 to 8, and so on by powers of two."""
    bins: dict[int, tuple[int, int]] = {}
    for size, count in sorted(found.items()):
        power = (size - 1).bit_length()
        clusters_before, documents_before = bins.get(power, (0, 0))
        bins[power] = clusters_before + count, documents_before + size * count
    most = max(clusters for clusters, _ in bins.values())
    return [
        Bar(_span((1 << power - 1) + 1, 1 << power), (number(num_clusters), number(documents)), num_clusters / most)
        for power, (num_clusters, documents) in bins.items()
    ]


def samples(report: CorpusReport) -> str:
    """How some documents begin."""

    def told(source: SourceFacts) -> str:
        texts: list[str] = source.content.get("samples", [])
        return first_of([sample("", text) for text in texts], _SAMPLES_SHOWN)

    return section("samples", "Texts that were kept", panels(report.sources, told, "No text is at hand."))
