from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.filters import overlap
from data_prep.filters.base import Dropped
from data_prep.filters.overlap import HeldOutNgrams, NgramCollector, Rows

WORDS = st.lists(st.sampled_from("abcdef"), max_size=12)
DOCUMENTS = st.lists(WORDS, max_size=6)


def collect(documents: Sequence[Sequence[str]], ngram: int = 3, first: int = 1) -> Rows:
    collector = NgramCollector(ngram)
    for number, words in enumerate(documents, first):
        collector.add(f"{number:032x}"[::-1], " ".join(words))
    return collector.rows()


def ngrams(words: Sequence[str], ngram: int = 3) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + ngram]) for start in range(len(words) - ngram + 1)}


def overlaps(held_out: Sequence[Sequence[str]], words: Sequence[str], max_share: float) -> bool:
    """What is asked, the slow way."""
    sets = [ngrams(document) for document in held_out]
    known = {ngram for one in sets for ngram in one if sum(ngram in other for other in sets) == 1}
    ours = ngrams(words) & known
    return len(ours) > max_share * len(ngrams(words)) or any(len(ours & one) > max_share * len(one) for one in sets)


@given(DOCUMENTS, WORDS, st.sampled_from([0.0, 0.2, 0.5, 0.9]))
def test_overlap_is_what_the_slow_way_says(held_out: list[list[str]], words: list[str], max_share: float) -> None:
    found = HeldOutNgrams(collect(held_out)).overlaps(" ".join(words), 3, max_share)
    assert found == overlaps(held_out, words, max_share)


@given(DOCUMENTS, st.permutations(range(6)), st.integers(0, 6), st.integers(1, 20), st.integers(1, 5))
def test_rows_depend_neither_on_order_nor_on_parts(
    documents: list[list[str]], order: list[int], cut: int, most: int, batch: int
) -> None:
    """Nor does the sample that is left where there are too many."""
    numbered = list(enumerate(documents, 1))
    with pytest.MonkeyPatch.context() as patch:
        everything = collect(documents)
        patch.setattr(overlap, "MAX_NGRAMS", most)
        patch.setattr(overlap, "_BATCH", batch)
        shuffled = [numbered[place] for place in order if place < len(numbered)]
        whole = NgramCollector(3)
        for part in (shuffled[:cut], shuffled[cut:]):
            collector = NgramCollector(3)
            for number, words in part:
                collector.add(f"{number:032x}"[::-1], " ".join(words))
            whole.extend(collector.rows())
        assert np.array_equal(whole.rows(), everything[:, :most])


def prose(name: str, num_words: int) -> str:
    return " ".join(f"{name}{number}" for number in range(num_words))


@pytest.mark.parametrize(
    ("text", "is_dropped"),
    [
        (f"{prose('before', 500)} {prose('held', 100)} {prose('behind', 500)}", True),
        (" ".join(prose("held", 100).split()[40:70]), True),
        (f"{prose('before', 500)} {' '.join(prose('held', 100).split()[:20])}", False),
        (prose("long", 40), True),
        (f"{prose('before', 500)} {prose('long', 400)}", True),
        (f"{prose('before', 500)} {prose('long', 200)}", True),
        (f"{prose('before', 5000)} {prose('long', 200)}", False),
        (prose("licence", 100), False),
        (f"{prose('licence', 100)} {prose('of', 50)}", False),
        (prose("other", 100), False),
        ("held0 held1 held2", False),
        ("", False),
    ],
)
def test_what_goes_at_the_default_share(tmp_path: Path, text: str, is_dropped: bool) -> None:
    collector = NgramCollector(13)
    collector.add("1" * 32, f"{prose('held', 100)} {prose('licence', 100)}")
    collector.add("2" * 32, f"{prose('licence', 100)} {prose('long', 2000)}")
    np.save(tmp_path / "ngrams.npy", collector.rows())
    judge = overlap.build(tmp_path / "ngrams.npy", 13, 0.2)
    assert judge(text, {}) == (Dropped("contaminated") if is_dropped else text)


def test_of_very_many_a_sample_finds_long_quotations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "MAX_NGRAMS", 2000)
    held_out = [prose(f"x{number}x", 1000).split() for number in range(20)]
    rows = collect(held_out, 13)
    assert rows.shape == (2, 2000)
    found = HeldOutNgrams(rows)
    assert all(found.overlaps(" ".join(words), 13, 0.2) for words in held_out)
    assert all(found.overlaps(f"{prose('b', 9000)} {' '.join(words)}", 13, 0.2) for words in held_out)
    assert not any(found.overlaps(f"{prose('b', 3000)} {' '.join(words[:50])}", 13, 0.2) for words in held_out)
    assert not found.overlaps(prose("other", 3000), 13, 0.2)


def test_nothing_held_out_drops_nothing() -> None:
    assert not HeldOutNgrams(collect([])).overlaps(prose("a", 100), 13, 0.0)
