"""The cache's bound: what goes, what stays, and what is in use."""

import logging
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.reader import ShardReader
from pipeline.corpus.remote.cache import Cache, RemoteShard
from pipeline.corpus.remote.locks import locked
from pipeline.corpus.remote.patience import Patience
from pipeline.corpus.remote.room import held_files, partial_path
from pipeline.corpus.remote.store import Store
from pipeline.errors import CorpusError
from tests.unit.corpus.build import write_corpus

SIZES = (3, 30, 90, 200, 400, 30, 120, 60)
"""Tokens of the shards."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("origin")
    return write_corpus(folder, {"web": [[range(size)] for size in SIZES]})


def shards_of(corpus: Corpus) -> list[RemoteShard]:
    store = Store(f"file://{corpus.folder}", Patience(attempts=1), timeout_seconds=1)
    return [RemoteShard(store, "shards/web", entry) for entry in corpus.manifest.train["web"]]


def places(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in (folder / "shards").rglob("*") if path.is_file()}


def held_bytes(folder: Path) -> int:
    return sum((folder / place).stat().st_size for place in places(folder))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_least_recently_used_go_and_no_more_than_is_needed(corpus: Corpus, data: st.DataObject) -> None:
    shards = shards_of(corpus)
    largest = max(shard.entry.bytes for shard in shards)
    bound = data.draw(st.integers(largest, sum(shard.entry.bytes for shard in shards)))
    model: list[RemoteShard] = []  # the least recently used first
    with tempfile.TemporaryDirectory() as name:
        cache = Cache(Path(name), bound, downloads=1)
        for shard in data.draw(st.lists(st.sampled_from(shards), max_size=30)):
            with cache.shard(shard) as path:
                reader = ShardReader(path, "uint16", shard.entry.tokens)
            assert reader.tokens(0, shard.entry.tokens).tolist() == list(range(shard.entry.tokens))
            if shard in model:
                model.remove(shard)
            while sum(one.entry.bytes for one in model) + shard.entry.bytes > bound:
                model.pop(0)
            model.append(shard)
            assert places(cache.folder) == {one.place for one in model}
            assert held_bytes(cache.folder) <= bound
            indexes = {path.name for path in (cache.folder / "index").rglob("*.npy")}
            assert indexes == {f"{Path(one.place).stem}.idx.npy" for one in model}


def test_a_shard_larger_than_the_bound_is_an_error_and_costs_nothing(corpus: Corpus, tmp_path: Path) -> None:
    small, large = shards_of(corpus)[0], shards_of(corpus)[4]
    cache = Cache(tmp_path, large.entry.bytes - 1, downloads=1)
    with cache.shard(small):
        pass
    message = (
        rf"web-000004\.tar has {large.entry.bytes} bytes, data\.cache\.max_bytes is {large.entry.bytes - 1}; raise"
    )
    with pytest.raises(CorpusError, match=message), cache.shard(large):
        pass
    assert places(tmp_path) == {small.place}


def test_what_is_mapped_is_read_on_though_it_has_gone(corpus: Corpus, tmp_path: Path) -> None:
    first, second = shards_of(corpus)[3:5]
    cache = Cache(tmp_path, second.entry.bytes, downloads=1)
    with cache.shard(first) as path:
        reader = ShardReader(path, "uint16", first.entry.tokens)
    with cache.shard(second):
        pass
    assert not path.exists()
    assert reader.tokens(0, first.entry.tokens).tolist() == list(range(first.entry.tokens))
    assert reader.document_ends().tolist() == [first.entry.tokens]
    assert [span.record.position for span in reader.documents()] == [0]
    assert reader.damaged_chunks() == []


def test_a_shard_is_not_removed_before_it_is_mapped(corpus: Corpus, tmp_path: Path) -> None:
    first, second, third = shards_of(corpus)[1:4]
    cache = Cache(tmp_path, first.entry.bytes + third.entry.bytes, downloads=1)
    with cache.shard(first) as held:
        with cache.shard(second):
            pass
        with cache.shard(third):
            assert held.exists()
    assert places(tmp_path) == {first.place, third.place}


def test_bytes_on_their_way_count_and_what_a_dead_process_left_does_not(corpus: Corpus, tmp_path: Path) -> None:
    first, second, third = shards_of(corpus)[2:5]
    cache = Cache(tmp_path, sum(shard.entry.bytes for shard in (first, second, third)) - 1, downloads=1)
    with cache.shard(second):
        pass
    partial = partial_path(tmp_path / first.place, first.entry.bytes)
    partial.write_bytes(b"some")
    assert [file.bytes for file in held_files(tmp_path)] == [second.entry.bytes, first.entry.bytes]
    with locked(cache.lock_path(partial)), cache.shard(third):  # as if it was being fetched
        assert partial.exists()
        assert places(tmp_path) == {str(partial.relative_to(tmp_path)), third.place}
    with cache.shard(second):  # nobody fetches it: it goes
        assert places(tmp_path) == {second.place, third.place}


def test_what_is_half_there_is_fetched_anew(corpus: Corpus, tmp_path: Path) -> None:
    shard = shards_of(corpus)[2]
    cache = Cache(tmp_path, shard.entry.bytes, downloads=1)
    with cache.shard(shard) as path:
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
    partial_path(path, shard.entry.bytes).write_bytes(b"some")
    with cache.shard(shard) as path:
        assert path.read_bytes() == whole
    assert places(tmp_path) == {shard.place}


def read_at_random(folder: str, origin: str, bound: int, seed: int) -> None:
    """One of several processes; a wrong token or a bound that is passed ends it with an error."""
    corpus = Corpus(Path(origin))
    shards, cache = shards_of(corpus), Cache(Path(folder), bound, downloads=1)
    for number in np.random.default_rng(seed).integers(0, len(shards), 150).tolist():
        with cache.shard(shards[number]) as path:
            reader = ShardReader(path, "uint16", SIZES[number])
        assert reader.tokens(0, SIZES[number]).tolist() == list(range(SIZES[number]))
        assert reader.document_ends().tolist() == [SIZES[number]]
        with locked(Path(folder) / "locks" / "all"):  # while nobody makes room
            assert sum(file.bytes for file in held_files(Path(folder))) <= bound
    os._exit(0)


def test_processes_that_read_while_others_evict(corpus: Corpus, tmp_path: Path) -> None:
    bound = 2 * max(shard.entry.bytes for shard in shards_of(corpus))
    context = multiprocessing.get_context("spawn")
    arguments = [(str(tmp_path), str(corpus.folder), bound, seed) for seed in range(3)]
    processes = [context.Process(target=read_at_random, args=one) for one in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert held_bytes(tmp_path) <= bound


def until(happens: Callable[[], bool], cache: Cache) -> None:
    """Wait for a thread; the test's own limit ends it."""
    import time

    while not happens():
        time.sleep(0.005)


def test_prefetching_brings_what_has_room_and_drives_out_nothing_that_is_wanted(corpus: Corpus, tmp_path: Path) -> None:
    old, *wanted = shards_of(corpus)[1:5]
    cache = Cache(tmp_path, sum(shard.entry.bytes for shard in wanted[:2]) + 10, downloads=1)
    with cache.shard(old):
        pass
    cache.prefetch(wanted)
    until(lambda: cache.has(wanted[1]), cache)
    cache.prefetch(wanted)
    until(lambda: places(tmp_path) == {shard.place for shard in wanted[:2]}, cache)
    with cache.shard(wanted[2]):  # needed: now it is their turn to go
        assert cache.has(wanted[2])


def test_a_failed_prefetch_is_told_and_an_error_only_once_it_is_needed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = write_corpus(tmp_path / "origin", {"web": [[range(30)], [range(60)]]})
    gone, there = shards_of(corpus)
    (corpus.folder / gone.name).unlink()
    cache = Cache(tmp_path / "cache", 10**9, downloads=1)
    with caplog.at_level(logging.WARNING, "tarmac"):
        cache.prefetch([gone, there])
        until(lambda: cache.has(there), cache)
        cache.prefetch([gone, there])
    assert sum("prefetch: " in record.getMessage() for record in caplog.records) == 1
    with pytest.raises(CorpusError, match=r"web-000000\.tar cannot be fetched \("), cache.shard(gone):
        pass


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(CorpusError, match="belongs to another user"):
        Cache(tmp_path, 1, downloads=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match="cannot be made"):
        Cache(tmp_path / "file", 1, downloads=1)
