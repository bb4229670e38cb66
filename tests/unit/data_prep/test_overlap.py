from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.documents.runs import write_array
from data_prep.filters import overlap
from data_prep.filters.base import Dropped
from data_prep.filters.overlap import HeldOutNgrams, NgramCollector, Rows, by_hash, count_documents

WORDS = st.lists(st.sampled_from("abcdef"), max_size=12)
DOCUMENTS = st.lists(WORDS, max_size=6)


def collect(documents: Sequence[Sequence[str]], ngram: int = 3, first: int = 1) -> Rows:
    collector = NgramCollector(ngram)
    for number, words in enumerate(documents, first):
        collector.add(f"{number:032x}"[::-1], " ".join(words))
    return collector.rows()


def ngrams(words: Sequence[str], ngram: int = 3) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + ngram]) for start in range(len(words) - ngram + 1)}


def is_much(common: int, of: int, max_share: float) -> bool:
    return common > max_share * of and common >= min(3, of)


def overlaps(held_out: Sequence[Sequence[str]], words: Sequence[str], max_share: float) -> bool:
    """What is asked, the slow way."""
    sets = [ngrams(document) for document in held_out]
    known = {ngram for one in sets for ngram in one if sum(ngram in other for other in sets) == 1}
    ours = ngrams(words) & known
    shares = [(ours, ngrams(words)), *((ours & one, one) for one in sets)]
    return bool(ours) and any(is_much(len(common), len(of), max_share) for common, of in shares if common)


@given(DOCUMENTS, WORDS, st.sampled_from([0.0, 0.2, 0.5, 0.9]))
def test_overlap_is_what_the_slow_way_says(held_out: list[list[str]], words: list[str], max_share: float) -> None:
    found = HeldOutNgrams(by_hash(collect(held_out))).overlaps(" ".join(words), 3, max_share)
    assert found == overlaps(held_out, words, max_share)


def looked_at(documents: Sequence[Sequence[str]], most: int) -> list[Sequence[str]]:
    """The documents with the lowest ids whose n-grams reach a number; the slow way."""
    chosen: list[Sequence[str]] = []
    for _, words in sorted((f"{number:032x}"[::-1], words) for number, words in enumerate(documents, 1)):
        if sum(len(ngrams(one)) for one in chosen) < most:
            chosen.append(words)
    return chosen


@given(DOCUMENTS, st.permutations(range(6)), st.integers(0, 6), st.integers(1, 20), st.integers(1, 5), WORDS)
def test_whole_documents_are_looked_at_in_whatever_order_they_come(
    documents: list[list[str]], order: list[int], cut: int, most: int, batch: int, words: list[str]
) -> None:
    """Those with the lowest ids; and what is found of them is what is found where there are no others."""
    numbered = list(enumerate(documents, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "MAX_NGRAMS", most)
        in_order = collect(documents)
        patch.setattr(overlap, "_BATCH", batch)
        shuffled = [numbered[place] for place in order if place < len(numbered)]
        whole = NgramCollector(3)
        for part in (shuffled[:cut], shuffled[cut:]):
            collector = NgramCollector(3)
            for number, document in part:
                collector.add(f"{number:032x}"[::-1], " ".join(document))
            assert collector.num_documents == sum(len(document) >= 3 for _, document in part)
            whole.extend(collector.rows())
        assert np.array_equal(whole.rows(), in_order)
    chosen = looked_at(documents, most)
    assert count_documents(in_order) == sum(len(document) >= 3 for document in chosen)
    found = HeldOutNgrams(by_hash(in_order)).overlaps(" ".join(words), 3, 0.2)
    assert found == overlaps(chosen, words, 0.2)


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
    write_array(tmp_path / "ngrams.npy", by_hash(collector.rows()))
    judge = overlap.build(tmp_path / "ngrams.npy", 13, 0.2)
    assert judge(text, {}) == (Dropped("contaminated") if is_dropped else text)


def test_of_very_many_documents_some_are_looked_at_and_of_these_every_quotation_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overlap, "MAX_NGRAMS", 2000)
    held_out = [prose(f"x{number}x", 200).split() for number in range(50)]
    rows = collect(held_out, 13)
    assert count_documents(rows) == 11
    chosen = looked_at([words[12:] for words in held_out], 2000)  # as many 1-grams as there are 13-grams
    assert len(chosen) == 11
    found = HeldOutNgrams(by_hash(rows))
    for words in held_out:
        is_looked_at = words[12:] in chosen
        assert found.overlaps(" ".join(words), 13, 0.2) == is_looked_at
        assert found.overlaps(f"{prose('b', 9000)} {' '.join(words[50:110])}", 13, 0.2) == is_looked_at
        assert not found.overlaps(f"{prose('b', 300)} {' '.join(words[50:80])}", 13, 0.2)


def test_one_or_two_ngrams_in_common_are_chance_unless_a_document_has_no_more() -> None:
    short = prose("short", 16)  # four n-grams
    found = HeldOutNgrams(by_hash(collect([short.split(), prose("held", 100).split(), prose("tiny", 13).split()], 13)))
    words = short.split()
    assert not found.overlaps(f"{prose('b', 100)} {' '.join(words[:14])}", 13, 0.2)
    assert found.overlaps(f"{prose('b', 100)} {' '.join(words[:15])}", 13, 0.2)
    assert found.overlaps(f"{prose('b', 100)} {prose('tiny', 13)}", 13, 0.2)
    assert found.overlaps(" ".join(prose("held", 100).split()[5:19]), 13, 0.2)
    assert not found.overlaps(" ".join(prose("held", 100).split()[5:19]) + " of it", 13, 0.2)


def test_nothing_held_out_drops_nothing() -> None:
    assert not HeldOutNgrams(by_hash(collect([]))).overlaps(prose("a", 100), 13, 0.0)
