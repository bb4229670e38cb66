"""A bucket: one source's documents in one range of hashes, deduplicated and in the order of their shard."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.dedup.exact import read_duplicates
from data_prep.document import HashedDocument
from data_prep.read import unpack_bucket
from data_prep.split import is_held_out
from pipeline.corpus.manifest import Split


@dataclass(frozen=True)
class SplitSource:
    """One source after reading, deduplication and the split: documents can be asked for by bucket."""

    name: str
    """Name of the source."""
    num_buckets: int
    """How many buckets it has."""
    read_folders: tuple[Path, ...]
    """Where its reading tasks left documents."""
    duplicates: tuple[Path, ...]
    """Files of duplicates' ids, one per partition of the hashes."""
    threshold: int
    """Below it, a document is held out."""

    def documents(self, bucket: int, split: Split) -> list[HashedDocument]:
        """A bucket's documents in one split, sorted by hash: a shuffle that no input order shows through."""
        dropped = read_duplicates(self._partitions(bucket))
        documents = [
            hashed
            for folder in self.read_folders
            for hashed in unpack_bucket(folder, self.name, bucket)
            if is_held_out(hashed.hash, self.threshold) == (split == "validation") and hashed.document.id not in dropped
        ]
        return sorted(documents, key=lambda hashed: hashed.hash)

    def all_documents(self, split: Split) -> Iterator[HashedDocument]:
        """All documents of one split, sorted by hash; one bucket at a time is held in memory."""
        for bucket in range(self.num_buckets):
            yield from self.documents(bucket, split)

    def _partitions(self, bucket: int) -> tuple[Path, ...]:
        """The partitions of the hashes that a bucket's range touches."""
        num_partitions = len(self.duplicates)
        first = bucket * num_partitions // self.num_buckets
        last = ((bucket + 1) * num_partitions - 1) // self.num_buckets
        return self.duplicates[first : last + 1]
