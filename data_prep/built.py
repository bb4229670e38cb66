"""What the phases of one config left: everything that goes into a corpus."""

from dataclasses import dataclass

from data_prep.dedup.exact import Kept
from data_prep.dedup.near import NearDuplicates
from data_prep.documents.source import SourceDocuments
from data_prep.plan import SourcePlan
from data_prep.tasks.store import Done
from pipeline.corpus.manifest import Split


@dataclass(frozen=True)
class BuiltSource:
    """One source, from its inputs to its shards."""

    plan: SourcePlan
    """Its inputs."""
    reads: list[Done]
    """What its reading tasks left."""
    kept: Kept
    """What deduplication left."""
    documents: SourceDocuments
    """What goes into shards."""
    shards: dict[Split, list[Done]]
    """What its shard tasks left, those of empty ranges too; nothing if the corpus had its shards before."""
    pairs: list[Done]
    """What its pair tasks left."""


@dataclass(frozen=True)
class Built:
    """Everything that goes into a corpus."""

    sources: list[BuiltSource]
    """In the order of the config."""
    tokenizer: Done
    """The tokenizer's task."""
    near: NearDuplicates
    """Near-duplicates."""
