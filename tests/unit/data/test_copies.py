"""Corpora that are elsewhere: what rots in the cache comes again, and what the cache lets go takes no room for long."""

import hashlib
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.manifest import write_manifest
from pipeline.data.ahead import fetch_upcoming
from pipeline.data.corpora import Corpora, LostTokensError
from pipeline.data.cuts import Cuts
from pipeline.data.loader import Loader, Share
from pipeline.data.mixture import integer_weights
from pipeline.data.order import Order
from pipeline.data.phases import Change, DamagedChunk, Phase, Setting, SourceShare
from pipeline.stages.explain.find import find_document
from tests.unit.corpus.build import FINGERPRINT, copied, write_corpus

DOCUMENTS = [[range(number, number + size) for size in (30, 7, 1, 45)] for number in (1000, 2000)]


class Reading:
    """One process's way to the tokens of a corpus."""

    def __init__(self, corpus: Corpus, packing: str = "concat") -> None:
        number = len(corpus.manifest.train["web"])
        self.corpora = Corpora({"web": (corpus, "web")}, "train")
        shares = (SourceShare("web", "", number, integer_weights([1])[0]),)
        setting = Setting(shares, 16, 4, packing)  # type: ignore[arg-type]
        order = Order(Cuts(self.corpora.shards, 1), 1, [Phase(0, 0, setting)])
        self._loader = Loader(self.corpora, order, Share(0, 1, 4), 0)

    def rows(self, num_steps: int = 3) -> list[object]:
        """Inputs of the first steps; three are an epoch."""
        return [self._loader.batch(step).micro_batches[0].input_ids.tolist() for step in range(num_steps)]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("origin"), {"web": DOCUMENTS}, fingerprint=FINGERPRINT)


def flip(path: Path, place: int) -> None:
    """Change one bit of a file where it is, as a disk would: whoever maps it sees that."""
    with open(path, "r+b") as file:
        file.seek(place)
        [byte] = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 4]))


def place_of(corpus: Corpus, shard: int, token: int) -> int:
    """Where a token lies in a shard's file."""
    path = corpus.shard_path("train", "web", corpus.manifest.train["web"][shard])
    return path.read_bytes().index(bytes([token & 255, token >> 8]))


def cached(folder: Path, ending: str) -> list[Path]:
    return sorted(folder.rglob(f"*{ending}"))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_bit_that_is_lost_in_the_cache_comes_again(origin: Corpus, data: st.DataObject) -> None:
    """Of a tarball or of the index that was made of it, before it is opened or while it is."""
    with tempfile.TemporaryDirectory() as name:
        there = Reading(copied(origin.folder, Path(name)))
        truth = Reading(origin).rows()
        assert there.rows() == truth
        if data.draw(st.booleans(), label="opened anew"):
            there = Reading(copied(origin.folder, Path(name)))
        path = data.draw(st.sampled_from([*cached(Path(name), ".tar"), *cached(Path(name), ".idx.npy")]))
        flip(path, data.draw(st.integers(0, path.stat().st_size - 1)))
        assert there.rows() == truth


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.model"])
def test_manifest_and_tokenizer_come_again_too(origin: Corpus, tmp_path: Path, name: str) -> None:
    corpus = copied(origin.folder, tmp_path)
    [path] = cached(tmp_path, name)
    whole = path.read_bytes()
    made = corpus.folder.stat().st_ino
    assert copied(origin.folder, tmp_path).folder.stat().st_ino == made
    flip(path, 5)
    assert copied(origin.folder, tmp_path).folder == corpus.folder
    assert path.read_bytes() == whole


def test_it_is_fetched_once_for_all_processes(origin: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    readings = [Reading(copied(origin.folder, tmp_path)) for _ in range(2)]
    for one in readings:
        for shard in (0, 1):
            one.corpora.shards["web"].reader(shard)
    flip(cached(tmp_path, ".tar")[0], place_of(origin, 0, 1001))
    with caplog.at_level(logging.WARNING, "tarmac"):
        assert [one.rows() for one in readings] == [Reading(origin).rows()] * 2
    [told] = [record.getMessage() for record in caplog.records]
    assert "web-000000.tar: its copy here is damaged" in told
    assert "it is fetched again" in told


def test_packing_reads_on_where_a_header_is_lost(origin: Corpus, tmp_path: Path) -> None:
    there = Reading(copied(origin.folder, tmp_path), "best_fit")
    for shard in (0, 1):
        there.corpora.shards["web"].reader(shard)
    content = cached(tmp_path, ".tar")[1].read_bytes()
    flip(cached(tmp_path, ".tar")[1], content.rindex(b"ustar"))  # of the last file: what is before it can be read
    assert there.rows() == Reading(origin, "best_fit").rows()


def test_what_is_damaged_where_it_comes_from_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The checksum of its shard was taken when it was damaged already, so that fetching it again is of no use."""
    origin = write_corpus(tmp_path / "origin", {"web": DOCUMENTS}, fingerprint=FINGERPRINT)
    path, entries = tmp_path / "origin/shards/web/web-000001.tar", origin.manifest.train["web"]
    flip(path, place_of(origin, 1, 2001))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    damaged = replace(entries[1], sha256=digest)
    write_manifest(origin.folder, origin.manifest.model_copy(update={"train": {"web": [entries[0], damaged]}}))
    with caplog.at_level(logging.WARNING, "tarmac"), pytest.raises(LostTokensError) as error:
        Reading(copied(origin.folder, tmp_path / "cache")).rows()
    assert error.value.lost == (DamagedChunk("web", 1, 0),)
    assert not caplog.records


def let_go_and_mapped(folder: Path) -> Iterator[str]:
    """Files of a folder that are gone but for this process, which maps them: they still take room."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if str(folder) in line and line.endswith("(deleted)"):
            yield line.split()[4]


def test_what_the_cache_lets_go_takes_no_room_for_long(tmp_path: Path) -> None:
    documents = [[range(number, number + 300)] for number in range(24)]
    origin = write_corpus(tmp_path / "origin", {"web": documents}, fingerprint=FINGERPRINT)
    largest = max(entry.bytes for entry in origin.manifest.train["web"])
    cache = tmp_path / "cache"
    corpus = copied(origin.folder, cache, max_bytes=3 * largest, ahead=0)
    readings = [Reading(corpus) for _ in range(2)]
    for step in range(120):
        for one in readings:
            assert one._loader.batch(step)
            assert len(set(let_go_and_mapped(cache))) <= len(readings)
    held = sum(path.stat().st_size for path in cached(cache, ".tar"))
    assert held <= 3 * largest


def test_a_shard_in_use_is_not_the_next_to_go(tmp_path: Path) -> None:
    documents = [[range(number, number + 300)] for number in range(6)]
    origin = write_corpus(tmp_path / "origin", {"web": documents}, fingerprint=FINGERPRINT)
    largest = max(entry.bytes for entry in origin.manifest.train["web"])
    corpus = copied(origin.folder, tmp_path / "cache", max_bytes=3 * largest)
    used, other = (Reading(corpus).corpora.shards["web"].reader for _ in range(2))
    path = used(0).path
    for shard in (1, 2, 3, 4, 5):
        other(shard)
        assert used(0).path.exists()
    assert path.exists()


def test_a_source_of_the_next_phase_comes_before_it_begins(tmp_path: Path) -> None:
    documents = [[range(number, number + 300)] for number in range(4)]
    write_corpus(tmp_path / "origin", {"web": documents, "code": documents}, fingerprint=FINGERPRINT)
    corpus = copied(tmp_path / "origin", tmp_path / "cache")
    corpora = Corpora({name: (corpus, name) for name in ("web", "code")}, "train")
    shares = [SourceShare(name, "", 4, integer_weights([1])[0]) for name in ("web", "code")]
    settings = [Setting((share,), 16, 4) for share in shares]
    order = Order(Cuts(corpora.shards, 1), 1, [Phase(0, 0, settings[0])], [Change(100, settings[1])])
    [first] = order.upcoming(100, 1)["code"]
    order = Order(Cuts(corpora.shards, 1), 1, [Phase(0, 0, settings[0])], [Change(100, settings[1])])
    place = tmp_path / f"cache/shards/code/code-{first:06d}.*.tar"
    for step, comes in ((0, False), (35, False), (36, True)):
        for number in (0, 1):  # how many come in the background besides those of the step
            fetch_upcoming(corpora, order, step, number)
        deadline = time.monotonic() + 30
        while comes and not list(place.parent.glob(place.name)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert bool(list(place.parent.glob(place.name))) == comes


def test_a_document_is_found_in_more_shards_than_the_cache_holds(tmp_path: Path) -> None:
    documents = [[range(number, number + 300)] for number in range(24)]
    origin = write_corpus(tmp_path / "origin", {"web": documents}, fingerprint=FINGERPRINT)
    largest = max(entry.bytes for entry in origin.manifest.train["web"])
    corpus = copied(origin.folder, tmp_path / "cache", max_bytes=2 * largest)
    found = find_document(Corpora({"web": (corpus, "web")}, "train"), f"{0:032x}")
    assert [(one.shard, one.span.start, one.span.stop) for one in found] == [(shard, 0, 300) for shard in range(24)]
