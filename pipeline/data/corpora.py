"""The sequences of tokenized corpora: pieces of shards' streams, each position with the token that follows it."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import xxhash

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.index import DamagedShardError
from pipeline.corpus.manifest import Split
from pipeline.corpus.reader import DamagedChunkError, DocumentSpan, ShardReader
from pipeline.corpus.stretches import is_among, split_at
from pipeline.data.batch import IGNORED, Rows
from pipeline.data.cuts import Pieces, Positions, ShardCut
from pipeline.data.holes import merged, punch, touched, withdrawn_spans
from pipeline.data.open_shards import OpenShards
from pipeline.data.phases import NO_HOLES, DamagedChunk, Holes
from pipeline.errors import CorpusError

_KEPT = 4
"""Shards of each source of which is kept what was worked out: an order has one open, and at its end the next one."""

Result = TypeVar("Result")


class LostTokensError(DamagedChunkError):
    """Chunks of a source are damaged; their tokens can be left out."""

    def __init__(self, shard: Path, lost: tuple[DamagedChunk, ...]) -> None:
        """Name the file and the first of the chunks."""
        super().__init__(shard, lost[0].chunk)
        self.lost = lost


class CorpusSource:
    """One source of a corpus in one split; its readers stay open."""

    def __init__(self, corpus: Corpus, source: str, split: Split) -> None:
        """Take a source by its name in the corpus. Raises CorpusError if it is missing."""
        self.corpus, self.source, self.split = corpus, source, split
        self.entries = corpus.manifest.shards(split, source)
        self.reader = OpenShards(self._open, are_copies=corpus.copy is not None)
        self.document_ends = lru_cache(maxsize=_KEPT)(self._document_ends)
        self.spans = lru_cache(maxsize=2)(self._spans)
        self.ends_read = deque[tuple[int, str]]()
        """Shards whose documents' ends were read, and checksums of these: ranks compare them, and take them out."""

    @cached_property
    def num_positions(self) -> Positions:
        """Tokens of each shard that have one behind them."""
        return np.array([max(0, entry.tokens - 1) for entry in self.entries], dtype=np.int64)

    def _open(self, shard: int) -> ShardReader:
        return self.corpus.open_shard(self.split, self.source, shard)

    def read(self, shard: int, what: Callable[[ShardReader], Result]) -> Result:
        """What is read of a shard; if its copy on this machine was damaged since it came, of one that comes again.

        Raises:
            DamagedShardError: It is damaged where it comes from.
            CorpusError: It cannot be fetched.
        """
        try:
            return what(self.reader(shard))
        except DamagedShardError:
            if not self.corpus.mend_shard(self.split, self.source, shard):
                raise
            self.reader.close(shard)
            return what(self.reader(shard))

    def _spans(self, shard: int) -> list[DocumentSpan]:
        return self.read(shard, lambda reader: list(reader.documents()))

    def _document_ends(self, shard: int) -> Positions:
        ends = self.read(shard, lambda reader: reader.document_ends())
        self.ends_read.append((shard, xxhash.xxh3_128_hexdigest(ends.data)))
        return ends


class Corpora:
    """The sequences of some sources in one split."""

    def __init__(
        self,
        sources: Mapping[str, tuple[Corpus, str]],
        split: Split,
        withdrawn: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        """Take, per name, a corpus and the source's name in it; and ids of withdrawn documents, by their sha256.

        Raises:
            CorpusError: A corpus or source is missing, a source is empty, or corpora differ in their tokenizer.
        """
        self.withdrawn = dict(withdrawn or {})
        self._holes = lru_cache(maxsize=_KEPT * len(sources))(self._find_holes)
        self._shards = {name: CorpusSource(corpus, source, split) for name, (corpus, source) in sources.items()}
        tokenizers = {}
        for one in self._shards.values():
            if not one.num_positions.sum():
                raise CorpusError(
                    f"source {one.source!r} of corpus {one.corpus.folder} has an empty {split} split; prepare more text"
                )
            tokenizers[one.corpus.manifest.tokenizer.fingerprint] = one.corpus.folder
        if len(tokenizers) > 1:
            folders = " and ".join(str(folder) for folder in tokenizers.values())
            raise CorpusError(f"corpora {folders} were prepared with different tokenizers; prepare them with one")

    @property
    def shards(self) -> Mapping[str, CorpusSource]:
        """The shards of each source."""
        return self._shards

    def fingerprint(self, source: str, num_shards: int) -> str:
        """sha256 over what the manifest says of the first so many shards of a source."""
        one = self._shards[source]
        return one.corpus.manifest.fingerprint(one.split, one.source, num_shards)

    def fill(self, rows: Rows, which: Positions, at: ShardCut, pieces: Pieces, sequences: Positions) -> None:
        """Write some sequences of a shard into the rows `which`.

        Raises:
            CorpusError: The shard is missing or damaged.
        """
        source = self._shards[at.source]
        starts, stops, counts = pieces.of(sequences)
        targets = np.repeat(which, counts) * rows.inputs.shape[1] + _columns(starts, stops, counts)
        if rows.positions is not None:
            rows.clear_behind(which, np.add.reduceat(stops - starts, np.cumsum(counts) - counts))
        with _loss_named(source, at):
            source.read(at.shard, lambda reader: self._read_in(reader, rows, which, at, targets, starts, stops))
        if rows.holes != NO_HOLES:
            holes = self._holes(at.source, at.shard, rows.holes)
            for piece in touched(holes, starts, stops).tolist():
                punch(rows, int(targets[piece]), int(starts[piece]), int(stops[piece]), holes)

    def _read_in(
        self, reader: ShardReader, rows: Rows, which: Positions, at: ShardCut, targets: Positions, starts: Positions,
        stops: Positions,
    ) -> None:  # fmt: skip
        """Write pieces of a shard; chunks that are known to be damaged are read as they are, to be made holes."""
        reader.excused = frozenset(_lost(rows.holes, at.source, at.shard))
        if rows.positions is None:
            _fill_windows(rows, which, reader, starts, stops)
        else:
            ends = self._shards[at.source].document_ends(at.shard) if rows.keeps_apart else np.empty(0, np.int64)
            _fill_pieces(rows, targets, starts, stops, reader, ends)

    def _find_holes(self, name: str, shard: int, holes: Holes) -> tuple[Positions, Positions]:
        source = self._shards[name]
        spans = [source.reader(shard).chunk_span(chunk) for chunk in _lost(holes, name, shard)]
        if holes.withdrawn:
            ids = self.withdrawn[holes.withdrawn]
            spans += source.read(shard, lambda reader: withdrawn_spans(reader.documents(), ids))
        return merged(spans)


@contextmanager
def _loss_named(source: CorpusSource, at: ShardCut) -> Iterator[None]:
    """A damaged chunk as an error that says which of the run's sources lost it, and what else is lost of its shard.

    Where one is damaged there are often more; found one by one, each would begin a phase of its own.
    """
    try:
        yield
    except DamagedChunkError as error:
        reader = source.reader(at.shard)
        chunks = sorted({error.chunk, *reader.damaged_chunks()} - reader.excused)
        raise LostTokensError(error.shard, tuple(DamagedChunk(at.source, at.shard, one) for one in chunks)) from error


def _lost(holes: Holes, name: str, shard: int) -> list[int]:
    return [lost.chunk for lost in holes.quarantined if (lost.source, lost.shard) == (name, shard)]


def _columns(starts: Positions, stops: Positions, counts: Positions) -> Positions:
    """Where each piece begins in its sequence: behind those before it."""
    before = np.cumsum(stops - starts) - (stops - starts)
    columns: Positions = before - np.repeat(before[np.cumsum(counts) - counts], counts)
    return columns


def _fill_windows(rows: Rows, which: Positions, reader: ShardReader, starts: Positions, stops: Positions) -> None:
    """Sequences of one piece each, all at once; only a shard's last is short."""
    length = rows.inputs.shape[1]
    is_short = stops - starts < length
    if is_short.any():
        rows.clear(which[is_short])
        for row, start, stop in zip(*(column[is_short].tolist() for column in (which, starts, stops)), strict=True):
            [tokens] = reader.rows(np.array([start]), stop + 1 - start)
            rows.inputs[row, : stop - start], rows.labels[row, : stop - start] = tokens[:-1], tokens[1:]
        which, starts = which[~is_short], starts[~is_short]
    tokens = reader.rows(starts, length + 1)
    rows.inputs[which], rows.labels[which] = tokens[:, :-1], tokens[:, 1:]


def _fill_pieces(
    rows: Rows, targets: Positions, starts: Positions, stops: Positions, reader: ShardReader, ends: Positions
) -> None:
    """Pieces, from their targets in the rows on. Where one of `ends` lies in a piece, two documents are kept apart."""
    assert rows.positions is not None
    inputs, labels, positions = (array.reshape(-1) for array in (rows.inputs, rows.labels, rows.positions))
    ramp, tokens = np.arange(rows.inputs.shape[1]), reader.elements
    begins, stops, piece = split_at(starts, stops, ends)
    targets = targets[piece] + begins - starts[piece]
    first, last, run, elements = reader.stretches(begins, stops)
    offsets, sizes = first - begins[run], last - first
    columns = (targets[run] + offsets, sizes, elements, offsets)
    for target, size, element, offset in zip(*(column.tolist() for column in columns), strict=True):
        inputs[target : target + size] = tokens[element : element + size]
        labels[target : target + size - 1] = tokens[element + 1 : element + size]
        positions[target : target + size] = ramp[offset : offset + size]
    labels[targets[run] + offsets + sizes - 1] = reader.rows(last, 1)[:, 0]
    labels[(targets + (stops - begins) - 1)[is_among(stops, ends)]] = IGNORED
