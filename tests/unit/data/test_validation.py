from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.corpus import Corpus
from pipeline.data.batch import IGNORED, MicroBatch, Rows
from pipeline.data.cuts import Cut, Pieces, Positions, ShardCut
from pipeline.data.validation import batches, corpus_batches, held_out_corpora
from pipeline.errors import CorpusError
from tests.unit.corpus.build import write_corpus

SIZES = st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 9), max_size=4), max_size=3)


class Shards:
    def __init__(self, sizes: list[int]) -> None:
        self.num_positions = np.array(sizes, dtype=np.int64)

    def document_ends(self, shard: int) -> Positions:
        raise AssertionError("not asked for")


class Numbered:
    """Sequences of one position, which is their number."""

    def __init__(self, sizes: dict[str, list[int]]) -> None:
        self.shards = {name: Shards(one) for name, one in sizes.items()}
        places = [(name, i, n) for name, one in sizes.items() for i, size in enumerate(one) for n in range(size)]
        self.numbers = {place: number for number, place in enumerate(places)}

    def fingerprint(self, source: str, num_shards: int) -> str:
        return ""

    def fill(self, rows: Rows, which: Positions, at: ShardCut, pieces: Pieces, sequences: Positions) -> None:
        rows.clear(which)
        for row, sequence in zip(which.tolist(), sequences.tolist(), strict=True):
            rows.labels[row, 0] = self.numbers[at.source, at.shard, sequence]


def seen(found: list[MicroBatch]) -> list[int]:
    return [label for one in found for label in one.labels.flatten().tolist() if label != IGNORED]


@given(SIZES, st.integers(1, 9), st.integers(1, 9), st.none() | st.integers(1, 60))
def test_ranks_cover_each_sequence_once(
    sizes: dict[str, list[int]], micro_size: int, world_size: int, limit: int | None
) -> None:
    source, cut = Numbered(sizes), Cut(2, "whole")
    ranks = [list(batches(source, cut, micro_size, limit, rank, world_size)) for rank in range(world_size)]
    assert len({len(found) for found in ranks}) == 1
    assert all(one.input_ids.shape == (micro_size, 2) for found in ranks for one in found)
    covered = sorted(label for found in ranks for label in seen(found))
    total = len(source.numbers)
    if limit is None or limit >= total:
        assert covered == list(range(total))
    else:
        assert len(covered) == len(set(covered)) == limit
        assert max(np.diff([*covered, total + covered[0]])) <= -(-total // limit)  # spread evenly
    assert seen(list(batches(source, cut, 1, limit))) == covered


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    sources = {"web": [[range(100, 119)], [range(200, 203)]], "code": [[range(300, 331), range(400, 402)]]}
    return write_corpus(tmp_path, sources, split="validation", chunk_tokens=8)


@pytest.mark.parametrize(("length", "micro_size"), [(4, 1), (4, 3), (7, 2), (100, 8)])
def test_every_target_of_a_corpus_is_scored_once(corpus: Corpus, length: int, micro_size: int) -> None:
    found = seen(list(corpus_batches(corpus.folder, length, micro_size)))
    expected = [*range(101, 119), *range(201, 203), *range(301, 331), *range(400, 402)]
    assert sorted(found) == expected


def test_no_more_sequences_than_asked_for(corpus: Corpus) -> None:
    assert sum(bool((one.labels != IGNORED).any()) for one in corpus_batches(corpus.folder, 4, 1, 3)) == 3


def test_several_corpora_are_read_one_after_another(corpus: Corpus, tmp_path: Path) -> None:
    assert list(held_out_corpora([corpus, corpus]).shards) == ["0/code", "0/web", "1/code", "1/web"]


def test_one_source_of_a_corpus_is_read(corpus: Corpus) -> None:
    assert list(held_out_corpora([corpus], "web").shards) == ["0/web"]
    with pytest.raises(CorpusError, match="has no source 'news' in a validation split; name another, or none"):
        held_out_corpora([corpus], "news")


def test_a_corpus_without_a_validation_split_is_refused(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"web": [[range(9)]]})
    with pytest.raises(CorpusError, match="has no validation split; prepare it with validation_share above 0"):
        next(corpus_batches(corpus.folder, 4, 1))
