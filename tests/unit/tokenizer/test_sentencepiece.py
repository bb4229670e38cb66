from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import TokenizerError
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.sentencepiece import SentencePieceTokenizer
from tests.unit.tokenizer.models import CONTROL_TOKENS, library_texts, train, trained

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def test_indented_code_survives_a_round_trip() -> None:
    for text in library_texts("email/*.py", 8):
        assert trained().decode(trained().encode(text)) == text


@given(TEXTS)
@settings(max_examples=200)
def test_any_text_survives_a_round_trip(text: str) -> None:
    assert trained().decode(trained().encode(text)) == text


def test_sentencepieces_own_mark_for_a_space_is_told_from_a_space() -> None:
    text = "\u2581a\u2581 \u2581\u2581b"
    assert trained().decode(trained().encode(text)) == text
    assert trained().encode_batch([text]) == [trained().encode(text)]
    prefixed = SentencePieceTokenizer(train(add_dummy_prefix=True))  # cannot be encoded in parts
    assert prefixed.decode(prefixed.encode("a\u2581b")) == "a b"


def test_a_model_without_an_end_is_refused() -> None:
    with pytest.raises(TokenizerError, match="no end-of-sentence piece; train it with one"):
        SentencePieceTokenizer(train(eos_id=-1))


@pytest.mark.parametrize("name", ["<s>", "</s>", "<unk>", "<pad>", *CONTROL_TOKENS])
def test_control_tokens_have_an_id_and_no_text_makes_them(name: str) -> None:
    ids = trained().encode(f"{name} x{name}")
    assert not set(ids) & set(range(8))
    assert trained().decode(ids) == f"{name} x{name}"


def test_ids_of_control_tokens() -> None:
    assert [trained().control_id(name) for name in CONTROL_TOKENS] == [4, 5, 6, 7]
    assert trained().control_id("<|nobody|>") is None
    assert (trained().eos_id, trained().pad_id, trained().vocab_size) == (2, 3, 1200)
    assert trained().decode([1, *trained().encode("a"), 2, 3, 7]) == "a"


@given(TEXTS)
@settings(max_examples=100)
def test_byte_lengths_of_ids_add_up_to_the_texts_bytes(text: str) -> None:
    lengths = trained().byte_lengths()
    assert sum(int(lengths[id_]) for id_ in trained().encode(text)) == len(text.encode("utf-8"))


def test_batches_are_encoded_as_single_texts() -> None:
    texts = ["", "a b", "    return x\n", "数据 🚀"]
    assert trained().encode_batch(texts) == [trained().encode(text) for text in texts]


def test_training_twice_gives_the_same_fingerprint() -> None:
    again = SentencePieceTokenizer(train())
    assert again.fingerprint() == trained().fingerprint()
    assert SentencePieceTokenizer(train(vocab_size=1100)).fingerprint() != trained().fingerprint()


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    trained().save(tmp_path / "made" / "here")
    loaded = load_tokenizer(tmp_path / "made" / "here")
    assert loaded.fingerprint() == trained().fingerprint()
    assert loaded.encode("def f():\n    pass") == trained().encode("def f():\n    pass")


def test_a_damaged_model_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(TokenizerError, match=r"tokenizer.model is not a sentencepiece model") as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"neither tokenizer.model nor tokenizer.json; give"):
        load_tokenizer(tmp_path / "nothing")
