import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.tokenizer import CONTROL_TOKENS, cut, train_tokenizer
from pipeline.errors import TokenizerError
from pipeline.tokenizer.sentencepiece import SentencePieceTokenizer
from tests.unit.small import small_texts


@pytest.fixture(scope="module")
def tokenizer() -> SentencePieceTokenizer:
    return train_tokenizer(small_texts(300), 400)


def test_trained_twice_it_has_the_same_bytes(tokenizer: SentencePieceTokenizer) -> None:
    assert train_tokenizer(small_texts(300), 400).fingerprint() == tokenizer.fingerprint()


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\u2581")))
def test_any_text_comes_back(tokenizer: SentencePieceTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["  def f():\n\t\treturn  1\n\n\n", " leading", "a\tb", "\U0001f680 emoji \u4e2d", "\x0c\r\n"]
)
def test_white_space_and_rare_signs_come_back(tokenizer: SentencePieceTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_control_tokens_have_their_ids_and_no_text_makes_them(tokenizer: SentencePieceTokenizer) -> None:
    assert tokenizer.vocab_size == 400
    assert (tokenizer.eos_id, tokenizer.pad_id) == (2, 3)
    assert [tokenizer.control_id(name) for name in CONTROL_TOKENS] == [4, 5, 6, 7]
    for text in (*CONTROL_TOKENS, "<s>", "</s>", "<pad>", "<unk>"):
        assert min(tokenizer.encode(text)) > 7


@given(st.text(st.sampled_from("ab\n"), max_size=60), st.integers(1, 9))
def test_cut_loses_nothing_and_keeps_the_limit(text: str, limit: int) -> None:
    pieces = list(cut(text, limit))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces)


def test_cut_prefers_line_ends() -> None:
    assert list(cut("ab\ncd\nefghijk\n", 6)) == ["ab\ncd\n", "efghij", "k\n"]


def test_a_vocabulary_too_large_for_the_text() -> None:
    with pytest.raises(TokenizerError, match=r"vocab_size \(4096\) is too large .* at most \d+"):
        train_tokenizer(["hello world"] * 5, 4096)


def test_the_largest_that_is_named_works() -> None:
    with pytest.raises(TokenizerError) as error:
        train_tokenizer(small_texts(20), 4096)
    largest = int(str(error.value).split("at most ")[1].split(",")[0])
    assert train_tokenizer(small_texts(20), largest).vocab_size == largest


@pytest.mark.parametrize("vocab_size", [1, 100, 264, 268])
def test_a_vocabulary_too_small(vocab_size: int) -> None:
    with pytest.raises(TokenizerError, match=rf"vocab_size \({vocab_size}\) is too small .* more than \d+"):
        train_tokenizer(small_texts(300), vocab_size)
