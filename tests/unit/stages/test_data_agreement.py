"""What one rank meets in its copy of the data, all ranks hear of at the same step. Ranks are threads here."""

import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pipeline.config.run import RunConfig
from pipeline.corpus.chunk import NPY_HEADER_BYTES
from pipeline.corpus.corpus import Corpus
from pipeline.data.corpora import Corpora
from pipeline.data.cuts import Cuts, Packing
from pipeline.data.mixture import integer_weights
from pipeline.data.order import Order
from pipeline.data.phases import DamagedChunk, Phase, Setting, SourceShare
from pipeline.engine.process_group import ProcessGroup
from pipeline.errors import CorpusError
from pipeline.runtime.journal import Journal
from pipeline.stages.data.feed import DataFeed
from tests.unit.corpus.build import write_corpus
from tests.unit.small import LLAMA

RANKS = 2
STEPS = 12
DOCUMENTS = [[list(range(start + 30 * n, start + 30 * n + 9)) for n in range(12)] for start in (1000, 2000, 3000)]


class Threads:
    """Collectives among threads; one that another does not come to breaks for all."""

    def __init__(self) -> None:
        self._barrier, self._values = Barrier(RANKS), list[Any]([None] * RANKS)

    def gather(self, rank: int, value: Any) -> list[Any]:
        self._values[rank] = value
        self._barrier.wait(timeout=60)
        values = list(self._values)
        self._barrier.wait(timeout=60)
        return values

    def group(self, rank: int) -> ProcessGroup:
        return cast(ProcessGroup, SimpleNamespace(
            ranks=SimpleNamespace(rank=rank, world_size=RANKS, is_main=rank == 0),
            gather=lambda value: self.gather(rank, value),
            max=lambda value: max(self.gather(rank, value)),
        ))  # fmt: skip


@pytest.fixture
def copies(tmp_path: Path) -> list[Corpus]:
    """Each rank's own."""
    return [write_corpus(tmp_path / str(rank), {"web": DOCUMENTS}, chunk_tokens=27) for rank in range(RANKS)]


def feeds(tmp_path: Path, copies: list[Corpus], packing: Packing = "concat", on_damage: str = "fail") -> list[DataFeed]:
    data = {
        "type": "corpus", "sources": [{"corpus": "c", "source": "web"}], "sequence_length": 16, "on_damage": on_damage,
    }  # fmt: skip
    config = RunConfig.model_validate({
        "stage": "pretrain", "output": str(tmp_path), "seed": 1, "data": data, "duration": {"steps": STEPS},
        "model": LLAMA, "batch": {"global_size": 4, "micro_size": 1}, "optimizer": {"type": "adamw", "lr": 1e-3},
        "checkpoints": {"every_steps": 1}, "evaluation": {"every_steps": 1}, "tracking": {"log_every_steps": 1},
    })  # fmt: skip
    share = SourceShare("web", "", len(DOCUMENTS), integer_weights([1])[0])
    threads, found = Threads(), []
    for rank, copy in enumerate(copies):
        source = Corpora({"web": (copy, "web")}, "train")
        order = Order(Cuts(source.shards, 1), 1, [Phase(0, 0, Setting((share,), 16, 4, packing))])
        found.append(DataFeed(config, source, order, threads.group(rank), Journal(tmp_path), 0))
    return found


def on_all(feeds: list[DataFeed], act: Callable[[DataFeed], Any]) -> list[Any]:
    """What each rank's thread returns, or the error it ends with."""

    def guarded(feed: DataFeed) -> Any:
        try:
            return act(feed)
        except Exception as error:
            return error

    with ThreadPoolExecutor(RANKS) as executor:
        return list(executor.map(guarded, feeds))


def read(feed: DataFeed) -> list[int]:
    return [batch.step for batch in feed.batches(0, STEPS)]


def shard_of(corpus: Corpus, shard: int) -> Path:
    return corpus.shard_path("train", "web", corpus.manifest.train["web"][shard])


def flip(corpus: Corpus, shard: int, *chunks: int) -> None:
    """Damage chunks."""
    content, reader = bytearray(shard_of(corpus, shard).read_bytes()), corpus.open_shard("train", "web", shard)
    for chunk in chunks:
        content[content.index(reader.tokens(*reader.chunk_span(chunk)).tobytes())] ^= 1
    shard_of(corpus, shard).write_bytes(content)


def change_an_end(corpus: Corpus, shard: int) -> None:
    """By one, so that it still can be what was written."""
    content = bytearray(shard_of(corpus, shard).read_bytes())
    with tarfile.open(shard_of(corpus, shard)) as tar:
        member = next(one for one in tar if one.name.endswith("docends.npy"))
    content[member.offset_data + NPY_HEADER_BYTES] += 1
    shard_of(corpus, shard).write_bytes(content)


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_nothing_is_told_where_all_is_well(tmp_path: Path, copies: list[Corpus], packing: Packing) -> None:
    assert on_all(feeds(tmp_path, copies, packing), read) == [list(range(STEPS))] * RANKS


@pytest.mark.parametrize("on_damage", ["fail", "skip"])
def test_a_shard_that_one_rank_lacks_ends_all(tmp_path: Path, copies: list[Corpus], on_damage: str) -> None:
    shard_of(copies[1], 2).unlink()
    for error in on_all(feeds(tmp_path, copies, on_damage=on_damage), read):
        assert isinstance(error, CorpusError)
        assert error.on_all_ranks
        assert str(error).startswith(f"shard {shard_of(copies[1], 2)} cannot be mapped")


def test_damage_that_is_not_to_be_left_out_ends_all(tmp_path: Path, copies: list[Corpus]) -> None:
    flip(copies[1], 1, 0)
    for error in on_all(feeds(tmp_path, copies), read):
        assert isinstance(error, CorpusError)
        assert "chunk 0 is damaged" in str(error)


def test_all_damage_of_a_shard_is_left_out_at_once(tmp_path: Path, copies: list[Corpus]) -> None:
    """By both ranks, though each has other damage, so that a shard begins one phase however much it lost."""
    flip(copies[0], 1, 0, 3)
    flip(copies[1], 1, 1, 3)
    found = feeds(tmp_path, copies, on_damage="skip")
    assert on_all(found, read) == [list(range(STEPS))] * RANKS
    assert found[0].order.phases(STEPS) == found[1].order.phases(STEPS)
    _, *left_out = found[0].order.phases(STEPS)
    assert left_out[-1].setting.holes.quarantined == tuple(DamagedChunk("web", 1, chunk) for chunk in (0, 1, 3))
    assert len(left_out) <= RANKS


def test_ranks_that_read_other_ends_of_documents_do_not_go_on(tmp_path: Path, copies: list[Corpus]) -> None:
    change_an_end(copies[1], 1)
    ends = [Corpora({"web": (copy, "web")}, "train").shards["web"].document_ends(1) for copy in copies]
    assert not np.array_equal(ends[0], ends[1])
    for error in on_all(feeds(tmp_path, copies, "best_fit"), read):
        assert isinstance(error, CorpusError)
        assert error.on_all_ranks
        assert "source web, shard 1: rank 1 reads other ends of documents than ranks before it" in str(error)
