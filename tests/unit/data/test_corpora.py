import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.batch import IGNORED
from pipeline.data.corpora import Corpora
from pipeline.data.cuts import Cuts
from pipeline.data.loader import Loader, Share
from pipeline.data.mixture import integer_weights
from pipeline.data.order import Order
from pipeline.data.phases import Change, Phase, Setting, SourceShare
from pipeline.errors import CorpusError
from tests.unit.corpus.build import write_corpus

SHARDS = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=8), min_size=1, max_size=3)
PAD = 65_000


def documents_of(shards: Sequence[Sequence[int]]) -> list[list[list[int]]]:
    """Documents of such lengths, whose tokens tell where they are from."""
    return [[[10_000 * s + 100 * d + n for n in range(size)] for d, size in enumerate(sizes)]
            for s, sizes in enumerate(shards)]  # fmt: skip


def setting_of(source: Corpora, length: int, batch: int, packing: object, mask: bool) -> Setting:
    shares = zip(source.shards.items(), integer_weights([1] * len(source.shards)), strict=True)
    sources = tuple(SourceShare(name, "", len(one.num_positions), weight) for (name, one), weight in shares)
    return Setting(sources, length, batch, packing, mask)  # type: ignore[arg-type]


@given(
    shards=SHARDS,
    chunk_tokens=st.integers(1, 40),
    lengths=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    packings=st.tuples(*[st.sampled_from(["concat", "best_fit"])] * 2),
    masks=st.tuples(st.booleans(), st.booleans()),
    change=st.integers(0, 4),
)
@settings(max_examples=150, deadline=None)
def test_what_reaches_the_model_is_what_the_order_says(
    shards: list[list[int]],
    chunk_tokens: int,
    lengths: tuple[int, int],
    packings: tuple[str, str],
    masks: tuple[bool, bool],
    change: int,
) -> None:
    """Each position reads its token and predicts the next one; documents kept apart begin anew, and end in nothing."""
    documents = documents_of(shards)
    streams = [[token for document in shard for token in document] for shard in documents]
    if not any(len(stream) > 1 for stream in streams):
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Corpora({"web": (write_corpus(Path(folder), {"web": documents}, chunk_tokens=chunk_tokens), "web")},
                         "train")  # fmt: skip
        first, later = (setting_of(source, *one, *two) for one, two in zip(
            [(length, 3) for length in lengths], zip(packings, masks, strict=True), strict=True))  # fmt: skip
        cuts = Cuts(source.shards, 1)
        order = Order(cuts, 1, [Phase(0, 0, first)], [Change(change, later)])
        loader = Loader(source, order, Share(0, 1, 3), PAD)
        for step in range(8):
            setting = order.phase(step).setting
            [micro] = loader.batch(step).micro_batches
            assert micro.input_ids.shape == (3, setting.sequence_length)
            for row, sample in enumerate(order.batch(step)):
                starts, stops, _ = cuts.pieces(sample.at).of(np.array([sample.sequence]))
                ends = set(np.cumsum(shards[sample.at.shard]).tolist())
                expected = []
                for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
                    begin = start
                    for place in range(start, stop):
                        begin = place if setting.keeps_apart and place in ends else begin
                        is_last = setting.keeps_apart and place + 1 in ends
                        stream = streams[sample.at.shard]
                        expected.append((stream[place], IGNORED if is_last else stream[place + 1], place - begin))
                rest = setting.sequence_length - len(expected)
                assert micro.input_ids[row].tolist() == [one[0] for one in expected] + [PAD] * rest
                assert micro.labels[row].tolist() == [one[1] for one in expected] + [IGNORED] * rest
                one_piece = torch.arange(setting.sequence_length)
                found = one_piece if micro.position_ids is None else micro.position_ids[row]
                assert found[: len(expected)].tolist() == [one[2] for one in expected]


def test_best_fit_cuts_no_document_that_fits_and_wastes_little() -> None:
    draw = np.random.default_rng(0)
    lengths = np.minimum(draw.lognormal(5, 1, 5000).astype(int) + 2, 2000)
    with tempfile.TemporaryDirectory() as folder:
        documents = [[7] * size for size in lengths.tolist()]
        source = Corpora({"web": (write_corpus(Path(folder), {"web": [documents]}, chunk_tokens=4096), "web")}, "train")
        setting = setting_of(source, 1024, 1, "best_fit", False)
        cuts = Cuts(source.shards, 1)
        order = Order(cuts, 1, [Phase(0, 0, setting)])
        pieces = cuts.pieces(order.batch(0)[0].at)
        assert (pieces.stops - pieces.starts).sum() / (len(pieces) * 1024) > 0.99
        whole = {(stop - size, stop) for stop, size in zip(np.cumsum(lengths).tolist(), lengths.tolist(), strict=True)}
        fits = {(start, stop) for start, stop in whole if stop - start <= 1024 and stop != lengths.sum()}
        assert fits <= set(zip(pieces.starts.tolist(), pieces.stops.tolist(), strict=True))


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"web": [[range(100, 119), range(7)]]}, chunk_tokens=20)
    path = tmp_path / "shards" / "web" / "web-000000.tar"
    content = bytearray(path.read_bytes())
    place = content.index(np.arange(100, 119, dtype=np.uint16).tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    source = Corpora({"web": (corpus, "web")}, "train")
    order = Order(Cuts(source.shards, 1), 1, [Phase(0, 0, setting_of(source, 8, 4, "concat", False))])
    with pytest.raises(CorpusError, match=r"web-000000\.tar: chunk 0 is damaged; run `tarmac verify --repair`"):
        Loader(source, order, Share(0, 1, 4), PAD).batch(0)


def test_missing_empty_and_mixed_corpora_are_refused(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a", {"web": [[range(9)]], "empty": [[[1]]]})
    with pytest.raises(CorpusError, match="source 'code' is not in the corpus; it has empty, web"):
        Corpora({"code": (corpus, "code")}, "train")
    with pytest.raises(CorpusError, match=r"source 'empty' .* has an empty train split; prepare more text"):
        Corpora({"empty": (corpus, "empty")}, "train")
    other = write_corpus(tmp_path / "b", {"web": [[range(9)]]}, fingerprint="1" * 64)
    with pytest.raises(CorpusError, match="different tokenizers; prepare them with one"):
        Corpora({"web": (corpus, "web"), "other": (other, "web")}, "train")
