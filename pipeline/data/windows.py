"""Pre-training sequences: windows of L tokens, with one token of look-ahead, over each shard's stream.

Window i of a shard reads tokens [iL, iL + L) and predicts [iL + 1, iL + L + 1): every token of a shard but its
first is predicted exactly once. The last window is short.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.manifest import ShardEntry, Split
from pipeline.corpus.reader import ShardReader
from pipeline.data import batch
from pipeline.errors import CorpusError

_OPEN_SHARDS = 64


class Windows:
    """The sequences of some sources in one split."""

    def __init__(self, sources: Mapping[str, tuple[Corpus, str]], split: Split, sequence_length: int) -> None:
        """Take, per name, a corpus and the source's name in it.

        Raises:
            CorpusError: A corpus or source is missing, a source is empty, or corpora differ in their tokenizer.
        """
        self.sequence_length = sequence_length
        self._sources, self._split = dict(sources), split
        self.shard = lru_cache(maxsize=_OPEN_SHARDS)(self._open)
        self._check()

    def _check(self) -> None:
        tokenizers = {}
        for name, (corpus, source) in self._sources.items():
            if not sum(self.shapes[name]):
                raise CorpusError(
                    f"source {source!r} of corpus {corpus.folder} has an empty {self._split} split; prepare more text"
                )
            tokenizers[corpus.manifest.tokenizer.fingerprint] = corpus.folder
        if len(tokenizers) > 1:
            folders = " and ".join(str(folder) for folder in tokenizers.values())
            raise CorpusError(f"corpora {folders} were prepared with different tokenizers; prepare them with one")

    @property
    def shapes(self) -> dict[str, Sequence[int]]:
        """Per source, the number of sequences in each shard."""
        return {
            name: [_num_windows(shard.tokens, self.sequence_length) for shard in self._shards(name)]
            for name in self._sources
        }

    @property
    def fingerprints(self) -> dict[str, str]:
        """Per source, the sha256 over its shards."""
        return {
            name: corpus.manifest.fingerprint(self._split, source) for name, (corpus, source) in self._sources.items()
        }

    def _shards(self, name: str) -> list[ShardEntry]:
        corpus, source = self._sources[name]
        return corpus.manifest.shards(self._split, source)

    def _open(self, name: str, shard: int) -> ShardReader:
        corpus, source = self._sources[name]
        return corpus.open_shard(self._split, source, shard)

    def fetch(self, name: str, shard: int, sequence: int) -> batch.Sequence:
        """One window. Raises CorpusError if its shard is missing or damaged."""
        reader = self.shard(name, shard)
        start = sequence * self.sequence_length
        tokens = reader.tokens(start, min(start + self.sequence_length + 1, reader.num_tokens)).astype(np.int64)
        return batch.Sequence(tokens[:-1], tokens[1:])


def _num_windows(num_tokens: int, sequence_length: int) -> int:
    return max(0, -(-(num_tokens - 1) // sequence_length))
