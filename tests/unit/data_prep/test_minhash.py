import gzip
import hashlib
import json
import random
import sys
from itertools import combinations
from pathlib import Path

import datasketch
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dedup import minhash, signatures
from data_prep.dedup.minhash import band_hashes
from data_prep.dedup.shingles import shingles
from data_prep.dedup.signatures import BandCollector
from data_prep.documents.rows import BANDS, RowWriter, read_rows
from data_prep.documents.words import PIECE_CHARACTERS, pieces
from pipeline.config.load import validate
from pipeline.config.prep.recipe import MinHash
from pipeline.errors import ConfigError, MissingDependencyError
from tests.unit.data_prep.naive_words import mixed_text, naive_words

SINGLE_WORDS = MinHash(shingle_words=1)
TEXTS = ["The quick, brown fox; jumps over the lazy dog.", "Straße ÉCOLE 42", "", " -- ", "敏捷的棕色狐狸 jumps"]


def naive_shingles(text: str, num_words: int) -> list[tuple[str, ...]]:
    words = naive_words(text)
    return [tuple(words[start : start + num_words]) for start in range(max(len(words) - num_words + 1, bool(words)))]


def shingle_sets(texts: list[str], num_words: int) -> list[set[int]]:
    hashes, counts = shingles(texts, num_words)
    return [set(part.tolist()) for part in np.split(hashes, np.cumsum(counts)[:-1])]


def pairs_found(hashes: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of rows that agree in a column."""
    return {
        pair
        for column in hashes.T
        for value in np.unique(column)
        for pair in combinations(np.flatnonzero(column == value).tolist(), 2)
    }


def texts_of_similarity(shared: int, own: int, count: int) -> list[str]:
    """Pairs of texts, one after the other, of words that no other pair has: Jaccard shared / (shared + 2 own)."""
    texts = []
    for pair in range(count):
        common = [f"w{pair}x{number}" for number in range(shared)]
        texts += [" ".join(common + [f"w{pair}{side}{number}" for number in range(own)]) for side in "yz"]
    return texts


@given(texts=st.lists(mixed_text, min_size=1, max_size=6), num_words=st.integers(1, 6))
def test_shingles_are_equal_where_the_words_are(texts: list[str], num_words: int) -> None:
    expected = [shingle for text in texts for shingle in naive_shingles(text, num_words)]
    hashes, counts = shingles(texts, num_words)
    assert counts.tolist() == [len(naive_shingles(text, num_words)) for text in texts]
    pairs = set(zip(hashes.tolist(), expected, strict=True))
    assert len(pairs) == len({shingle for _, shingle in pairs}) == len({hash_ for hash_, _ in pairs})


def test_case_and_punctuation_and_spaces_do_not_count() -> None:
    plain, other = shingle_sets(["one two don t stop", "  One,\ttwo\n\n“DON’T” ... stop!"], 2)
    assert plain == other
    assert len(plain) == 4


def test_a_short_text_is_one_shingle() -> None:
    hashes, counts = shingles(["a b", "a b c", "", "a b", "b a"], 5)
    assert counts.tolist() == [1, 1, 0, 1, 1]
    assert hashes[0] == hashes[2]
    assert len(set(hashes.tolist())) == 3


def test_long_texts_are_cut() -> None:
    text = "".join(f"word{number} " for number in range(PIECE_CHARACTERS // 4))
    cut = list(pieces(text))
    assert len(cut) == -(-len(text) // PIECE_CHARACTERS) > 2
    assert np.array_equal(shingles([text], 3).hashes, shingles(cut, 3).hashes)


@given(texts=st.lists(mixed_text, min_size=2, max_size=8), cut=st.integers(0, 8))
def test_a_text_has_the_same_hashes_in_any_company(texts: list[str], cut: int) -> None:
    config = MinHash(shingle_words=2, bands=3, rows=2)
    whole, first, second = (band_hashes(part, config) for part in (texts, texts[:cut], texts[cut:]))
    assert (whole.hashes == np.concatenate([first.hashes, second.hashes])).all()
    assert whole.has_words.tolist() == [bool(naive_words(text)) for text in texts]


def test_hashes_are_the_same_on_every_machine() -> None:
    """Hashes are stored; if a new rensa or Python gives others, sources cannot be appended to what was prepared."""
    found = band_hashes(TEXTS, MinHash())
    assert found.hashes.shape == (5, 14)
    assert found.has_words.tolist() == [True, True, False, False, True]
    digest = hashlib.sha256(found.hashes[found.has_words].astype("<u8").tobytes()).hexdigest()
    assert digest[:16] == "91ce3c8a74d9f21a"


def test_bands_of_equal_rows_share_no_hash() -> None:
    config = MinHash(shingle_words=9, bands=50, rows=1)
    nothing, first, second = band_hashes(["", "word", "word"], config).hashes  # of nothing, all rows are equal
    assert len(np.unique(np.concatenate([nothing, first]))) == 100
    assert (first == second).all()


@pytest.mark.parametrize(("shared", "own"), [(100, 50), (150, 25), (180, 10), (18, 1), (30, 15)])
def test_pairs_are_found_as_often_as_theory_says(shared: int, own: int) -> None:
    count, similarity = 600, shared / (shared + 2 * own)
    hashes = band_hashes(texts_of_similarity(shared, own, count), SINGLE_WORDS).hashes
    found = pairs_found(hashes)
    assert all(second == first + 1 and first % 2 == 0 for first, second in found)
    expected = 1 - (1 - similarity**SINGLE_WORDS.rows) ** SINGLE_WORDS.bands
    assert abs(len(found) / count - expected) < 4 * (expected * (1 - expected) / count) ** 0.5 + 1e-9


@pytest.mark.parametrize(("shared", "own"), [(100, 50), (150, 25), (180, 10)])
def test_similarity_is_estimated_as_datasketch_does(shared: int, own: int) -> None:
    config = MinHash(shingle_words=1, bands=128, rows=1)
    texts = texts_of_similarity(shared, own, 40)
    hashes = band_hashes(texts, config).hashes
    ours = (hashes[::2] == hashes[1::2]).mean()
    sketches = [datasketch.MinHash(128) for _ in texts]
    for sketch, text in zip(sketches, texts, strict=True):
        sketch.update_batch([word.encode() for word in text.split()])
    theirs = np.mean([first.jaccard(second) for first, second in zip(sketches[::2], sketches[1::2], strict=True)])
    assert abs(ours - theirs) < 0.04
    assert abs(ours - shared / (shared + 2 * own)) < 0.025


def test_the_same_near_duplicates_as_datasketch_finds() -> None:
    """Of pairs above 0.95 one in ten million is missed, of those below 0.2 one in 30,000 is found, by either."""
    source, config = random.Random(5), MinHash(shingle_words=2)
    vocabulary = [f"w{number}" for number in range(3000)]
    texts = []
    for _ in range(60):
        words = source.choices(vocabulary, k=400)
        for edits in (0, 1, 2, 3, 40, 150):
            changed = list(words)
            for place in source.sample(range(400), edits):
                changed[place] = source.choice(vocabulary)
            texts.append(" ".join(changed))
    sets = [set(naive_shingles(text, 2)) for text in texts]
    index = datasketch.MinHashLSH(num_perm=112, params=(config.bands, config.rows))
    sketches = [datasketch.MinHash(112) for _ in texts]
    for number, (sketch, words) in enumerate(zip(sketches, sets, strict=True)):
        sketch.update_batch([" ".join(shingle).encode() for shingle in words])
        index.insert(number, sketch)
    theirs = {
        (number, other) for number, sketch in enumerate(sketches) for other in index.query(sketch) if other > number
    }
    ours = pairs_found(band_hashes(texts, config).hashes)
    similarity = {
        pair: len(sets[pair[0]] & sets[pair[1]]) / len(sets[pair[0]] | sets[pair[1]])
        for pair in combinations(range(len(texts)), 2)
    }
    high = {pair for pair, value in similarity.items() if value >= 0.95}
    low = {pair for pair, value in similarity.items() if value < 0.2}
    assert len(high) == 60 * 6  # those of up to three edits
    assert high <= ours & theirs
    assert not low & (ours | theirs)
    expected = sum(1 - (1 - value**config.rows) ** config.bands for value in similarity.values() if value < 0.95)
    assert 100 < expected < 120
    assert abs(len(ours - high) - expected) < 35
    assert abs(len(theirs - high) - expected) < 35


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"bands": 513}, "bands is 513; input should be less than or equal to 512"),
        ({"shingle_words": 101}, "shingle_words is 101; input should be less than or equal to 100"),
        (
            {"bands": 450, "rows": 23},
            r"bands \(450\) times rows \(23\) must be at most 10000, the hashes of a document; take fewer of either",
        ),
    ],
)
def test_signatures_have_a_bound(values: dict[str, int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        validate(MinHash, values, "my.yaml")
    validate(MinHash, {"bands": 450, "rows": 20}, "my.yaml")  # RefinedWeb's


def test_large_signatures_are_computed_in_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, sizes = MinHash(bands=2, rows=3), []
    monkeypatch.setattr(signatures, "_BATCH_HASHES", 6 * 4)
    monkeypatch.setattr(minhash, "band_hashes", lambda texts, _: sizes.append(len(texts)) or band_hashes(texts, config))
    with RowWriter(tmp_path) as rows, BandCollector(config, rows) as collector:
        for node in range(12):
            collector.add(node, f"word{node}")
            rows.add(node, 0, node, 1, 0)
    assert sizes == [5, 5, 2]
    assert len(read_rows([tmp_path], BANDS, 0, 2**64 - 1)) == 24


def test_without_rensa_the_message_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tarmac\[minhash\]'"):
        band_hashes(["text"], MinHash())


@pytest.mark.realdata
def test_the_pair_of_nearly_equal_files_is_found(realdata: Path) -> None:
    files = [
        realdata / "webcrawl" / "dolma" / name
        for name in ("provided__documents__000.json.gz", "provided__deduper__documents__000.json.gz")
    ]
    texts = [json.loads(line)["text"] for path in files for line in gzip.decompress(path.read_bytes()).splitlines()]
    pairs = {(number, number + 10) for number in range(10)}
    (edited,) = [(first, second) for first, second in pairs if texts[first] != texts[second]]
    first, second = (set(naive_shingles(texts[number], 5)) for number in edited)
    assert 0.75 < len(first & second) / len(first | second) < 0.85
    assert pairs_found(band_hashes(texts, MinHash()).hashes) == pairs
