"""Held-out data in order, each sequence once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.config.data import CorpusCache
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.data.batch import MicroBatch, Rows
from pipeline.data.conversations import Conversations
from pipeline.data.corpora import Corpora
from pipeline.data.cuts import Cut, Cuts, ShardCut
from pipeline.data.loader import Sequences
from pipeline.data.noise import PADDING, Noise
from pipeline.errors import CorpusError
from pipeline.tokenizer.base import Tokenizer


def corpus_batches(
    place: str | Path, sequence_length: int, micro_size: int, max_sequences: int | None = None,
    cache: CorpusCache | None = None, noise: Noise | None = None,
) -> Iterator[MicroBatch]:  # fmt: skip
    """Windows over the validation split of every source of a corpus, with the noise of masked language modelling if
    some is given. Raises CorpusError if there is none."""
    windows = Cut(sequence_length, "concat")
    held_out = held_out_corpora([open_corpus(str(place), cache)])
    return batches(held_out, windows, micro_size, max_sequences, noise=noise)


def instruct_batches(
    path: str | Path, tokenizer: Tokenizer, sequence_length: int, micro_size: int, max_sequences: int | None = None
) -> Iterator[MicroBatch]:
    """The conversations of a file. Raises CorpusError if none fits the sequence length."""
    conversations = Conversations(path, tokenizer, sequence_length)
    return batches(conversations, Cut(sequence_length, "whole"), micro_size, max_sequences)


def held_out_corpora(corpora: list[Corpus], only: str | None = None) -> Corpora:
    """The validation splits of some corpora, all their sources or one. Raises CorpusError if there is nothing."""
    sources = {
        f"{number}/{source}": (corpus, source)
        for number, corpus in enumerate(corpora)
        for source, shards in sorted(corpus.manifest.validation.items())
        if shards and only in (None, source)
    }
    if not sources:
        folders = ", ".join(str(corpus.folder) for corpus in corpora)
        if only is not None:
            raise CorpusError(f"corpus {folders} has no source {only!r} in a validation split; name another, or none")
        raise CorpusError(f"corpus {folders} has no validation split; prepare it with validation_share above 0")
    return Corpora(sources, "validation")


def batches(
    source: Sequences,
    cut: Cut,
    micro_size: int,
    max_sequences: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    noise: Noise | None = None,
) -> Iterator[MicroBatch]:
    """A source's sequences in order, at most `max_sequences` spread evenly over it; each rank gets its share."""
    cuts = Cuts(source.shards, seed=0)
    shards = [
        ShardCut(name, 0, shard, cut) for name, one in source.shards.items() for shard in range(len(one.num_positions))
    ]
    places = list(enumerate((at, sequence) for at in shards for sequence in range(cuts.size(at))))
    if max_sequences is not None and len(places) > max_sequences:
        places = [places[number * len(places) // max_sequences] for number in range(max_sequences)]
    for first in range(0, len(places), micro_size * world_size):  # every rank as often: a forward pass may communicate
        rows = Rows(micro_size, cut.sequence_length, pad_id=PADDING if noise else 0)
        part = places[first + rank * micro_size : first + (rank + 1) * micro_size]
        rows.clear(np.arange(len(part), micro_size))
        for row, (_, (at, sequence)) in enumerate(part):
            source.fill(rows, np.array([row]), at, cuts.pieces(at), np.array([sequence]))
        if noise:
            noise.put_into(rows, np.array([number for number, _ in part] + [0] * (micro_size - len(part))))
        yield rows.micro_batches(micro_size)[0]
