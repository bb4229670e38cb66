"""N-grams of held-out shards, from which documents of sources that are appended later are kept apart."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from data_prep.documents.runs import write_array
from data_prep.filters.overlap import NgramCollector, by_hash, count_documents
from data_prep.tasks.task import Task
from pipeline.corpus.manifest import ShardEntry
from pipeline.corpus.reader import ShardReader
from pipeline.corpus.verification import shard_fault
from pipeline.errors import CorpusError
from pipeline.tokenizer.load import load_tokenizer

NGRAMS_NAME = "ngrams.npy"


@dataclass(frozen=True)
class HeldOutShardTask(Task):
    """The n-grams of one held-out shard's documents."""

    phase: ClassVar[str] = "held_out"
    result_type: ClassVar[type] = int

    entry: ShardEntry
    """The shard's line of the manifest."""
    dtype: str
    """Type of its tokens."""
    fingerprint: str
    """The tokenizer's."""
    ngram: int
    """Words in an n-gram."""
    path: str = field(compare=False)
    """The shard."""
    tokenizer: str = field(compare=False)
    """The tokenizer's folder."""

    def run(self, work: Path, folder: Path) -> int:
        """Write the n-grams; returns how many documents have any. Raises CorpusError if the shard is damaged."""
        fault = shard_fault(Path(self.path), self.entry)
        if fault:
            raise CorpusError(
                f"held-out shard {self.path} {fault}; mend the corpus with `tarmac verify CORPUS --repair CONFIG`,"
                " then give the same command"
            )
        ngrams = NgramCollector(self.ngram)
        for id_, text in self._texts():
            ngrams.add(id_, text)
        write_array(folder / NGRAMS_NAME, ngrams.rows())
        return ngrams.num_documents

    def _texts(self) -> Iterator[tuple[str, str]]:
        tokenizer = load_tokenizer(self.tokenizer)
        shard = ShardReader(self.path, self.dtype, self.entry.tokens)
        for span in shard.documents():
            yield span.record.id, tokenizer.decode(shard.tokens(span.start, span.stop - 1).tolist())


@dataclass(frozen=True)
class HeldOutTask(Task):
    """The n-grams of several held-out shards together."""

    phase: ClassVar[str] = "held_out"
    result_type: ClassVar[type] = int

    ngram: int
    """Words in an n-gram."""
    shards: tuple[str, ...]
    """Checksums over the shards' n-grams."""
    folders: tuple[str, ...] = field(compare=False)
    """Folders of the shards' tasks, relative to the work folder."""

    def run(self, work: Path, folder: Path) -> int:
        """Write the n-grams by their hashes; returns of how many documents they are."""
        ngrams = NgramCollector(self.ngram)
        for shard in self.folders:
            ngrams.extend(np.load(work / shard / NGRAMS_NAME, mmap_mode="r", allow_pickle=False))
        rows = ngrams.rows()
        write_array(folder / NGRAMS_NAME, by_hash(rows))
        return count_documents(rows)
