from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.tokenizer.train import cut, train_tokenizer
from pipeline.config.prep.tokenizer import TrainTokenizer
from pipeline.errors import TokenizerError
from pipeline.tokenizer.sentencepiece import SentencePieceTokenizer
from tests.unit.small import small_texts

ALGORITHMS = ("bpe", "unigram")
CONTROL_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")


def config(algorithm: str = "bpe", vocab_size: int = 400, **changes: Any) -> TrainTokenizer:
    return TrainTokenizer(type="train", algorithm=algorithm, vocab_size=vocab_size, **changes)


@pytest.fixture(scope="module", params=ALGORITHMS)
def tokenizer(request: pytest.FixtureRequest) -> SentencePieceTokenizer:
    return train_tokenizer(small_texts(300), config(request.param))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_trained_twice_it_has_the_same_bytes(algorithm: str) -> None:
    first, again = (train_tokenizer(iter(small_texts(300)), config(algorithm)).fingerprint() for _ in range(2))
    assert again == first
    assert train_tokenizer(small_texts(299), config(algorithm)).fingerprint() != first


def test_the_algorithms_differ() -> None:
    bpe, unigram = (train_tokenizer(small_texts(300), config(algorithm)) for algorithm in ALGORITHMS)
    scores = [[one.processor.GetScore(id_) for id_ in range(264, 400)] for one in (bpe, unigram)]
    assert scores[0] == [float(-rank) for rank in range(136)]  # a rank of merges, and log-probabilities
    assert all(-20 < score < 0 and score != int(score) for score in scores[1])


def test_of_characters_each_is_a_piece() -> None:
    texts = small_texts(300)
    tokenizer = train_tokenizer(texts, config("char"))
    characters = set("".join(texts))
    assert tokenizer.vocab_size == 4 + len(CONTROL_TOKENS) + 256 + len(characters)
    assert [tokenizer.decode([id_]) for id_ in tokenizer.encode(texts[0])] == list(texts[0])
    assert "\n" in characters
    for text in (texts[1], "  \u4e2d\u2581\n\n"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(tokenizer: SentencePieceTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["  def f():\n\t\treturn  1\n\n\n", " leading", "a\tb", "\U0001f680 emoji \u4e2d", "\x0c\r\n", "\u2581 \0"]
)
def test_white_space_and_rare_signs_come_back(tokenizer: SentencePieceTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_control_tokens_have_their_ids_and_no_text_makes_them(tokenizer: SentencePieceTokenizer) -> None:
    assert tokenizer.vocab_size == 400
    assert (tokenizer.eos_id, tokenizer.pad_id) == (2, 3)
    assert [tokenizer.control_id(name) for name in CONTROL_TOKENS] == [4, 5, 6, 7]
    for text in (*CONTROL_TOKENS, "<s>", "</s>", "<pad>", "<unk>"):
        assert min(tokenizer.encode(text)) > 7
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("names", [(), ("<|x|>",), ("value", "a b", "e", "\u2581It")])
def test_other_control_tokens(algorithm: str, names: tuple[str, ...]) -> None:
    tokenizer = train_tokenizer(small_texts(300), config(algorithm, control_tokens=names))
    assert [tokenizer.control_id(name) for name in names] == list(range(4, 4 + len(names)))
    text = small_texts(1)[0] + " e value a b"
    assert min(tokenizer.encode(text)) >= 4 + len(names)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("names", [("",), ("a\0b",), ("<s>",), ("<0x0A>",), ("\u2581",), ("<|x|>", "<|x|>")])
def test_control_tokens_that_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer.control_tokens holds '.*', .*; use another"):
        train_tokenizer(small_texts(300), config(control_tokens=names))


def test_character_coverage_decides_which_characters_have_pieces() -> None:
    texts = [*small_texts(300), "\u4e2d"]  # one of 27,000 characters
    some, all_ = (train_tokenizer(texts, config(character_coverage=share)) for share in (0.9999, 1.0))
    assert len(some.encode("\u4e2d")) == 3
    assert len(all_.encode("\u4e2d")) == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_spaces_come_back_where_the_sample_had_none(algorithm: str) -> None:
    texts = ["\u6570\u636e\u5904\u7406", "\u6a21\u578b\u6570\u636e", "\u5904\u7406"] * 20
    tokenizer = train_tokenizer(texts, config(algorithm, 272))
    for text in ("\u6570 \u636e  ", " a\n \u2581"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_line_ends_become_part_of_tokens() -> None:
    tokenizer = train_tokenizer(small_texts(300), config())
    tokens = [tokenizer.decode([id_]) for id_ in tokenizer.encode(small_texts(1)[0])]
    assert any("\n" in token and token != "\n" for token in tokens)


@given(st.text(st.sampled_from("ab\n"), max_size=60), st.integers(1, 9))
def test_cut_loses_nothing_and_keeps_the_limit(text: str, limit: int) -> None:
    pieces = list(cut(text, limit))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces)


def test_cut_prefers_line_ends() -> None:
    assert list(cut("ab\ncd\nefghijk\n", 6)) == ["ab\ncd\n", "efghij", "k\n"]


def test_texts_longer_than_the_trainer_takes_are_not_left_out() -> None:
    long = "quux" * 20_000
    assert len(train_tokenizer([*small_texts(300), long], config()).encode("quuxquux")) <= 2


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_vocabulary_too_large_for_the_text(algorithm: str) -> None:
    with pytest.raises(TokenizerError, match=r"vocab_size \(4096\) is too large .* at most \d+"):
        train_tokenizer(["hello world"] * 5, config(algorithm, 4096))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_largest_that_is_named_works(algorithm: str) -> None:
    with pytest.raises(TokenizerError) as error:
        train_tokenizer(small_texts(20), config(algorithm, 4096))
    largest = int(str(error.value).split("at most ")[1].split(",")[0])
    assert train_tokenizer(small_texts(20), config(algorithm, largest)).vocab_size == largest


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_vocabulary_too_small_for_the_text(algorithm: str) -> None:
    with pytest.raises(TokenizerError, match=r"vocab_size \(268\) is too small .* more than \d+"):
        train_tokenizer(small_texts(300), config(algorithm, 268))


@pytest.mark.parametrize("vocab_size", [1, 100, 264])
def test_a_vocabulary_too_small_for_all_bytes(vocab_size: int) -> None:
    with pytest.raises(ValidationError, match=rf"vocab_size \({vocab_size}\) is too small .* more than 264"):
        config("bpe", vocab_size)


@pytest.mark.parametrize("texts", [[], [""]])
def test_no_text_at_all(texts: list[str]) -> None:
    with pytest.raises(TokenizerError, match=r"no text to train on; raise tokenizer\.sample_bytes"):
        train_tokenizer(texts, config())


def test_an_error_in_reading_the_texts_is_itself() -> None:
    def texts() -> Iterator[str]:
        yield from small_texts(300)
        raise OSError("a disk is gone")

    with pytest.raises(OSError, match="a disk is gone"):
        train_tokenizer(texts(), config())


def test_a_sample_that_no_memory_holds_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 10000000000"):
        TrainTokenizer(type="train", vocab_size=300, sample_bytes=10**10 + 1)
