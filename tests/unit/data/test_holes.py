"""Withdrawn documents and damaged chunks become padding that nobody learns from; all else stays where it was."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.corpus import Corpus
from pipeline.data.batch import IGNORED
from pipeline.data.corpora import Corpora, LostTokensError
from pipeline.data.cuts import Cuts
from pipeline.data.holes import merged, read_withdrawn, touched
from pipeline.data.loader import Loader, Share
from pipeline.data.mixture import integer_weights
from pipeline.data.order import Order
from pipeline.data.phases import Change, DamagedChunk, Holes, Phase, Setting, SourceShare
from pipeline.errors import ConfigError
from tests.unit.corpus.build import cut, write_corpus

PAD = 65_000
DOCUMENTS = [list(range(start, start + size)) for start, size in ((0, 30), (100, 7), (200, 1), (300, 45), (400, 20))]
CHUNK_TOKENS = 40
SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair))), max_size=6)

Row = tuple[list[int], list[int], list[int] | None]


def setting_of(packing: str, mask: bool, length: int) -> Setting:
    sources = (SourceShare("web", "", 1, integer_weights([1])[0]),)
    return Setting(sources, length, 4, packing, mask)  # type: ignore[arg-type]


def flip_chunk(corpus: Corpus, chunk: int) -> tuple[int, int]:
    """Change every token of a chunk on disk; returns where they lie in the stream."""
    chunks = cut(DOCUMENTS, CHUNK_TOKENS)
    path = corpus.shard_path("train", "web", corpus.manifest.train["web"][0])
    content = bytearray(path.read_bytes())
    tokens = chunks[chunk].tokens.tobytes()
    place = content.index(tokens)
    content[place : place + len(tokens)] = b"\xff" * len(tokens)
    path.write_bytes(content)
    first = sum(len(one.tokens) for one in chunks[:chunk])
    return first, first + len(chunks[chunk].tokens)


def rows_of(corpus: Corpus, first: Setting, changes: list[Change], **withdrawn: frozenset[str]) -> list[Row]:
    """Inputs, labels and positions of each row of eight steps."""
    source = Corpora({"web": (corpus, "web")}, "train", withdrawn)
    order = Order(Cuts(source.shards, 1), 1, [Phase(0, 0, first)], changes)
    loader = Loader(source, order, Share(0, 1, 4), PAD)
    rows: list[Row] = []
    for step in range(8):
        [micro] = loader.batch(step).micro_batches
        positions = [None] * 4 if micro.position_ids is None else micro.position_ids.tolist()
        rows += list(zip(micro.input_ids.tolist(), micro.labels.tolist(), positions, strict=True))
    return rows


@given(
    st.sampled_from(["concat", "best_fit"]),
    st.booleans(),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.sets(st.integers(0, len(DOCUMENTS) - 1)),
    st.none() | st.integers(0, 2),
)
@settings(max_examples=60)
def test_holes_are_padding_and_nothing_moves(
    packing: str, mask: bool, lengths: tuple[int, int], withdrawn: set[int], damaged: int | None
) -> None:
    """Against the same rows without holes: each token tells where it is from."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder), {"web": [DOCUMENTS]}, chunk_tokens=CHUNK_TOKENS)
        first, longer = (setting_of(packing, mask, length) for length in lengths)
        plain = rows_of(corpus, first, [Change(3, longer)])
        gone = {token for number in withdrawn for token in DOCUMENTS[number]}
        lost: tuple[DamagedChunk, ...] = ()
        if damaged is not None:
            start, stop = flip_chunk(corpus, damaged)
            gone |= set([token for document in DOCUMENTS for token in document][start:stop])
            lost = (DamagedChunk("web", 0, damaged),)
        holes = Holes("some" if withdrawn else "", lost)
        ids = frozenset(f"{number:032x}" for number in withdrawn)
        change = Change(3, replace(longer, holes=holes))
        punched = rows_of(corpus, replace(first, holes=holes), [change], some=ids)
    for (inputs, labels, positions), (inputs_now, labels_now, positions_now) in zip(plain, punched, strict=True):
        assert inputs_now == [PAD if token in gone else token for token in inputs]
        assert labels_now == [
            IGNORED if token in gone or label in gone else label for token, label in zip(inputs, labels, strict=True)
        ]
        assert positions_now == positions


def test_a_hole_that_begins_in_mid_phase_leaves_the_order_as_it_was(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"web": [DOCUMENTS]}, chunk_tokens=CHUNK_TOKENS)
    setting = setting_of("concat", False, 8)
    change = Change(2, replace(setting, holes=Holes("some")))
    plain = rows_of(corpus, setting, [])
    punched = rows_of(corpus, setting, [change], some=frozenset([f"{3:032x}"]))
    assert plain[:8] == punched[:8]
    gone = range(300, 345)
    for (inputs, labels, _), (inputs_now, labels_now, _) in zip(plain[8:], punched[8:], strict=True):
        assert inputs_now == [PAD if token in gone else token for token in inputs]
        assert labels_now == [IGNORED if token in gone or label in gone else label
                              for token, label in zip(inputs, labels, strict=True)]  # fmt: skip
    assert any(token == 200 and label == 300 for row in plain[8:] for token, label in zip(*row[:2], strict=True))


def test_a_damaged_chunk_that_nobody_excuses_is_named_with_its_place(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"web": [DOCUMENTS]}, chunk_tokens=CHUNK_TOKENS)
    flip_chunk(corpus, 1)
    with pytest.raises(LostTokensError, match="chunk 1 is damaged; run `tarmac verify --repair`") as error:
        rows_of(corpus, setting_of("concat", False, 8), [])
    assert error.value.lost == (DamagedChunk("web", 0, 1),)


def test_chunks_are_told_apart_by_source_and_shard(tmp_path: Path) -> None:
    """Of two corpora with the same source, and two shards: one chunk is damaged, and it alone becomes padding."""
    corpora = [write_corpus(tmp_path / name, {"web": [DOCUMENTS] * 2}, chunk_tokens=CHUNK_TOKENS) for name in "ab"]
    path = corpora[1].shard_path("train", "web", corpora[1].manifest.train["web"][1])
    content = bytearray(path.read_bytes())
    content[content.index(cut(DOCUMENTS, CHUNK_TOKENS)[1].tokens.tobytes())] ^= 1
    path.write_bytes(content)
    named = {name: (corpus, "web") for name, corpus in zip(("web", "web#1"), corpora, strict=True)}
    source = Corpora(named, "train")
    setting = Setting(tuple(SourceShare(name, "", 2, 2**31) for name in named), 103, 16)
    order = Order(Cuts(source.shards, 1), 1, [Phase(0, 0, setting)])
    with pytest.raises(LostTokensError) as error:
        Loader(source, order, Share(0, 1, 16), PAD).batch(0)
    assert error.value.lost == (DamagedChunk("web#1", 1, 1),)
    [micro] = Loader(source, order.without(error.value.lost, 0), Share(0, 1, 16), PAD).batch(0).micro_batches
    whole = [*[token for document in DOCUMENTS for token in document][:102], PAD]
    gone = set(cut(DOCUMENTS, CHUNK_TOKENS)[1].tokens.tolist())
    for sample, row in zip(order.batch(0), micro.input_ids.tolist(), strict=True):
        is_damaged = (sample.at.source, sample.at.shard) == ("web#1", 1)
        assert row == [PAD if is_damaged and token in gone else token for token in whole]


def test_finding_withdrawn_documents_keeps_no_list_of_all(tmp_path: Path) -> None:
    """Such a list takes some hundred megabytes for a shard of short documents."""
    source = Corpora({"web": (write_corpus(tmp_path, {"web": [DOCUMENTS]}), "web")}, "train", {"some": frozenset()})
    setting = replace(setting_of("concat", False, 8), holes=Holes("some"))
    Loader(source, Order(Cuts(source.shards, 1), 1, [Phase(0, 0, setting)]), Share(0, 1, 4), PAD).batch(0)
    assert source.shards["web"].spans.cache_info().currsize == 0


@given(SPANS, st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=6))
def test_pieces_that_a_hole_touches(spans: list[tuple[int, int]], pieces: list[tuple[int, int]]) -> None:
    holes = merged(spans)
    gone = {place for start, stop in spans for place in range(start, stop)}
    assert gone == {place for pair in zip(*holes, strict=True) for place in range(*pair)}
    assert (holes[0][1:] > holes[1][:-1]).all()
    starts = np.array([start for start, _ in pieces], dtype=np.int64)
    stops = starts + np.array([size for _, size in pieces], dtype=np.int64)
    expected = [n for n, (a, b) in enumerate(zip(starts, stops, strict=True)) if gone & set(range(a, b + 1))]
    assert touched(holes, starts, stops).tolist() == expected


def test_a_file_of_ids_has_the_same_digest_in_any_order(tmp_path: Path) -> None:
    ids = [f"{number:032x}" for number in range(3)]
    (tmp_path / "one").write_text("\n".join(ids) + "\n")
    (tmp_path / "other").write_text("\n".join([*ids[::-1], ids[0]]))
    assert read_withdrawn(tmp_path / "one") == read_withdrawn(tmp_path / "other")
    assert read_withdrawn(tmp_path / "one")[1] == frozenset(ids)
    (tmp_path / "bad").write_text("web/3.txt\n")
    with pytest.raises(ConfigError, match=r"data.withdrawn \(.*bad\): 'web/3.txt' is no document id; give 32 hexa"):
        read_withdrawn(tmp_path / "bad")
    (tmp_path / "long").write_text("0" * 33 + "\n")
    with pytest.raises(ConfigError, match=r"'0{33}' is no document id"):
        read_withdrawn(tmp_path / "long")
    with pytest.raises(ConfigError, match=r"data.withdrawn \(.*none\) cannot be read: No such file"):
        read_withdrawn(tmp_path / "none")
