"""What the ranks of a run wrote down of their forward passes, and where in the corpus its tokens are found.

The tokens are searched for in the shards, so that nothing here knows of an order, a cut or a phase.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.reader import DocumentSpan


class Given(NamedTuple):
    """One row of a forward pass."""

    tokens: list[int]
    labels: list[int]
    positions: list[int]


Place = tuple[int, int, int, int]
"""Step from 1, rank, micro batch, row."""
Stretch = tuple[str, int, int, int]
"""Source, shard, first token, the one behind the last."""


def recorded(folder: Path) -> dict[Place, Given]:
    """All rows; a step that was made twice must have been given the same."""
    found: dict[Place, Given] = {}
    for path in folder.glob("rank-*.jsonl"):
        rank, step, number = int(path.stem.partition("-")[2]), 0, 0
        for line in path.read_text().splitlines():
            values = json.loads(line)
            is_next = values["step"] == step
            step, number = values["step"], number + 1 if is_next else 0
            positions = values["position_ids"] or [list(range(len(row))) for row in values["input_ids"]]
            rows = zip(values["input_ids"], values["labels"], positions, strict=True)
            for row, given in enumerate(rows):
                assert found.setdefault((step, rank, number, row), Given(*given)) == Given(*given)
    return found


class Texts:
    """The training split of a corpus, read from one end to the other."""

    def __init__(self, corpus: Path) -> None:
        opened = Corpus(corpus)
        self.streams: dict[tuple[str, int], np.ndarray] = {}
        self.spans: dict[tuple[str, int], list[DocumentSpan]] = {}
        for source, entries in opened.manifest.train.items():
            for shard, entry in enumerate(entries):
                reader = opened.open_shard("train", source, shard)
                self.streams[source, shard] = np.array(reader.tokens(0, entry.tokens))
                self.spans[source, shard] = list(reader.documents())
        self.documents = {
            span.record.id: self.streams[place][span.start : span.stop].tolist()
            for place, spans in self.spans.items()
            for span in spans
        }
        self._bytes = {place: stream.tobytes() for place, stream in self.streams.items()}
        self._size = next(iter(self.streams.values())).itemsize

    def occurrences(self, tokens: list[int]) -> list[Stretch]:
        """Where some tokens stand in the corpus."""
        some = next(iter(self.streams.values()))
        needle = np.array(tokens, some.dtype).tobytes()
        return [
            (*place, at, at + len(tokens))
            for place, hay in self._bytes.items()
            for at in _aligned(hay, needle, self._size)
        ]

    def documents_in(self, stretch: Stretch) -> list[str]:
        """Ids of the documents that a stretch has tokens of."""
        source, shard, first, last = stretch
        return [span.record.id for span in self.spans[source, shard] if span.start < last and span.stop > first]


def _aligned(hay: bytes, needle: bytes, size: int) -> Iterator[int]:
    at = hay.find(needle)
    while at >= 0:
        if at % size == 0:
            yield at // size
        at = hay.find(needle, at + 1)


def pieces(given: Given, pad_id: int) -> list[list[int]]:
    """Stretches of a row that are one piece of text each: what is between padding and new beginnings."""
    breaks = [0, *(n for n in range(1, len(given.tokens)) if _breaks(given, n, pad_id)), len(given.tokens)]
    found = [given.tokens[first:last] for first, last in pairwise(breaks)]
    return [piece for piece in found if piece[0] != pad_id]


def _breaks(given: Given, place: int, pad_id: int) -> bool:
    is_pad = [token == pad_id for token in given.tokens[place - 1 : place + 1]]
    return is_pad[0] != is_pad[1] or given.positions[place] != given.positions[place - 1] + 1
