"""Held-out data in order, each sequence once."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.corpus.corpus import Corpus
from pipeline.data.batch import MicroBatch, stack
from pipeline.data.conversations import Conversations
from pipeline.data.loader import SequenceSource
from pipeline.data.windows import Windows
from pipeline.errors import CorpusError
from pipeline.tokenizer.base import Tokenizer


def corpus_batches(
    folder: str | Path, sequence_length: int, micro_size: int, max_sequences: int | None = None
) -> Iterator[MicroBatch]:
    """Windows over the validation split of every source of a corpus. Raises CorpusError if there is none."""
    return batches(validation_windows([Corpus(Path(folder))], sequence_length), micro_size, max_sequences)


def instruct_batches(
    path: str | Path, tokenizer: Tokenizer, sequence_length: int, micro_size: int, max_sequences: int | None = None
) -> Iterator[MicroBatch]:
    """The conversations of a file. Raises CorpusError if none fits the sequence length."""
    return batches(Conversations(path, tokenizer, sequence_length), micro_size, max_sequences)


def validation_windows(corpora: list[Corpus], sequence_length: int) -> Windows:
    """Windows over the validation splits of some corpora, all their sources."""
    sources = {
        f"{number}/{source}": (corpus, source)
        for number, corpus in enumerate(corpora)
        for source, shards in sorted(corpus.manifest.validation.items())
        if shards
    }
    if not sources:
        folders = ", ".join(str(corpus.folder) for corpus in corpora)
        raise CorpusError(f"corpus {folders} has no validation split; prepare it with validation_share above 0")
    return Windows(sources, "validation", sequence_length)


def batches(
    source: SequenceSource, micro_size: int, max_sequences: int | None = None, rank: int = 0, world_size: int = 1
) -> Iterator[MicroBatch]:
    """A source's sequences in order, at most `max_sequences` spread evenly over it; each rank gets its share."""
    places = [
        (name, shard, sequence)
        for name, sizes in source.shapes.items()
        for shard, size in enumerate(sizes)
        for sequence in range(size)
    ]
    if max_sequences is not None and len(places) > max_sequences:
        places = [places[number * len(places) // max_sequences] for number in range(max_sequences)]
    for first in range(0, len(places), micro_size * world_size):  # every rank as often: a forward pass may communicate
        part = places[first + rank * micro_size : first + (rank + 1) * micro_size]
        yield stack([source.fetch(*place) for place in part], micro_size, source.sequence_length, pad_id=0)
