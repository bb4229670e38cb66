"""Reading a corpus folder for its report. Only the manifest has to be there; what else is missing is left empty."""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.corpus.manifest import (
    PREP_NAME,
    SPLIT_FOLDERS,
    STATISTICS_NAME,
    Manifest,
    ShardEntry,
    Split,
    read_manifest,
)

MAX_REJECTS = 10
"""Bad records shown of each source."""


@dataclass(frozen=True)
class SourceFacts:
    """One source of the corpus."""

    name: str
    """Its name."""
    shards: dict[Split, list[ShardEntry]]
    """Its shards in each split that has some."""
    figures: dict[str, Any]
    """What went in, what was dropped and why; from the manifest."""
    content: dict[str, Any]
    """What its documents are; from `stats.json`."""
    rejects: list[dict[str, Any]]
    """The first bad records."""

    @property
    def documents(self) -> int:
        """Documents in its shards."""
        return sum(shard.documents for group in self.shards.values() for shard in group)


@dataclass(frozen=True)
class CorpusReport:
    """All that the page shows."""

    name: str
    manifest: Manifest
    sources: list[SourceFacts]
    clusters: dict[int, int]
    """Documents in a cluster of near-duplicates -> clusters of that size."""
    timing: dict[str, Any]
    """How long the last run of `tarmac prep` took; from `prep.json`."""
    tokenizer_files: list[str]
    """What lies in the tokenizer's folder."""

    @property
    def shards(self) -> list[ShardEntry]:
        """All shards."""
        return [shard for source in self.sources for group in source.shards.values() for shard in group]


def collect(folder: Path) -> CorpusReport:
    """Everything known about a corpus. Raises CorpusError if the folder is not one."""
    manifest = read_manifest(folder)
    statistics = _read_object(folder / STATISTICS_NAME)
    content: dict[str, Any] = statistics.get("sources", {})
    clusters = statistics.get("near_duplicate_clusters", {})
    return CorpusReport(
        name=folder.resolve().name,
        manifest=manifest,
        sources=[_source(folder, manifest, name, content.get(name, {})) for name in _names(manifest)],
        clusters={int(size): count for size, count in clusters.items()},
        timing=_read_object(folder / PREP_NAME),
        tokenizer_files=sorted(path.name for path in (folder / "tokenizer").glob("*")),
    )


def _names(manifest: Manifest) -> list[str]:
    """In the order of the config, as far as the manifest tells it."""
    generations: list[list[str]] = manifest.statistics.get("generations", [])
    shards = [manifest.sources(split) for split in SPLIT_FOLDERS]
    named = [*generations, manifest.statistics.get("sources", {}), *shards]
    return list(dict.fromkeys(name for names in named for name in names))


def _source(folder: Path, manifest: Manifest, name: str, content: dict[str, Any]) -> SourceFacts:
    shards = {split: manifest.sources(split).get(name, []) for split in SPLIT_FOLDERS}
    return SourceFacts(
        name=name,
        shards={split: group for split, group in shards.items() if group},
        figures=manifest.statistics.get("sources", {}).get(name, {}),
        content=content,
        rejects=_first_rejects(folder / "rejects" / f"{name}.jsonl"),
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return _object(path.read_bytes())
    except OSError:
        return {}


def _first_rejects(path: Path) -> list[dict[str, Any]]:
    """The first lines of a file that may be large."""
    try:
        with path.open("rb") as file:
            return [row for line in islice(file, MAX_REJECTS) if (row := _object(line))]
    except OSError:
        return []


def _object(data: bytes) -> dict[str, Any]:
    """A JSON object; an empty one where the bytes are something else."""
    try:
        values = json.loads(data)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
