import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.documents import words as module
from data_prep.documents.words import PIECE_CHARACTERS, find_words, mix, pieces
from data_prep.filters.ngrams import hash_words
from tests.unit.data_prep.naive_words import mixed_text, naive_words


@given(mixed_text)
def test_words_are_those_of_the_slow_way_and_so_is_where_they_begin(text: str) -> None:
    starts, hashes = find_words(text)
    expected = naive_words(text)
    assert len(starts) == len(hashes) == len(expected)
    for start, word in zip(starts.tolist(), expected, strict=True):
        assert [character.lower()[0] for character in text[start : start + len(word)]] == list(word)
    pairs = set(zip(hashes.tolist(), expected, strict=True))
    assert len(pairs) == len({word for _, word in pairs}) == len({hash_ for hash_, _ in pairs})


@given(mixed_text, mixed_text)
def test_a_word_has_the_same_hash_in_any_text(one: str, other: str) -> None:
    alone, behind = find_words(other).hashes, find_words(f"{one} {other}").hashes
    assert (behind[len(behind) - len(alone) :] == alone).all()


@given(st.lists(st.sampled_from(["a", "bcd", " ", "\n", ".", "狐"]), max_size=80).map("".join), st.integers(1, 30))
def test_only_words_longer_than_a_piece_are_cut(text: str, piece_characters: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE_CHARACTERS", piece_characters)
        cut = list(pieces(text))
    assert "".join(cut) == text
    assert all(0 < len(piece) <= piece_characters for piece in cut)
    assert all(piece[-1] in " \n" or not set(piece) & set(" \n") for piece in cut[:-1])
    if all(len(run) < piece_characters for run in text.split()):
        assert [word for piece in cut for word in naive_words(piece)] == naive_words(text)


def test_words_of_a_long_text_are_those_of_its_parts() -> None:
    source = random.Random(3)
    lines = [" ".join(source.choices(["one", "Two", "drei", "狐狸", "–", "fünf"], k=9)) for _ in range(20_000)]
    text = "\n".join(lines)
    assert len(text) > 4 * PIECE_CHARACTERS
    expected = np.concatenate([hash_words(line) for line in lines])
    assert np.array_equal(hash_words(text), expected)


def test_numbers_are_mixed_as_published() -> None:
    """The first outputs of splitmix64 from state 0 and 1234567."""
    assert mix(np.array([0, 1234567], np.uint64)).tolist() == [0xE220A8397B1DCDAF, 6457827717110365317]
    numbers = np.arange(3, dtype=np.uint64)
    mix(numbers)
    assert numbers.tolist() == [0, 1, 2]


def test_scripts_without_spaces_are_words_of_one_character() -> None:
    for text in ("ภาษาไทย", "ພາສາລາວ", "မြန်မာ", "ភាសាខ្មែរ", "漢字かな", "ﾊﾝｶｸ"):
        assert len(find_words(text).hashes) == len(text)
    assert len(find_words("हिन्दी भाषा 한국어").hashes) == 3
