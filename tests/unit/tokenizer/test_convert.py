import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pipeline.errors import ExportError
from pipeline.tokenizer.convert import verify_conversion, write_huggingface
from pipeline.tokenizer.huggingface import HuggingFaceTokenizer
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.sentencepiece import SentencePieceTokenizer
from tests.unit.tokenizer.models import CONTROL_TOKENS, library_texts, train, trained, write_byte_level

PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
REPETITIVE = st.text("ab  \n\t=-_.#es\u2581\U0001f680", max_size=80)
"""Runs, where pairs that spell the same piece overlap."""

HARD_TEXTS = (
    "",
    " ",
    "\n\n\n\t \t",
    "    if x:\r\n        return  y   \n",
    "Änderungen — 数据 \U0001f680\U0001f1e9\U0001f1ea e\u0301 \u00a0\u2028\ufeff",
    "=" * 79 + "-" * 33 + " " * 257 + "\n" * 17 + "abab" * 9,
    "\x00\x01\x7f a\u2581 \u2581b",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("converted") / "tokenizer"
    write_huggingface(trained(), path)
    (path / "config.json").write_text('{"model_type": "llama"}')  # as in an exported model's folder
    return path


@pytest.fixture(scope="module")
def converted(folder: Path) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(folder)


@pytest.fixture(scope="module")
def auto(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def test_ids_of_real_code_are_the_same(folder: Path) -> None:
    texts = library_texts("*.py", 60) + library_texts("encodings/*.py", 20) + list(HARD_TEXTS)
    assert sum(map(len, texts)) > 1_000_000
    verify_conversion(trained(), folder, texts)


@given(text=PLAIN | REPETITIVE)
@settings(max_examples=500)
def test_ids_of_any_text_are_the_same(converted: HuggingFaceTokenizer, text: str) -> None:
    ids = trained().encode(text)
    assert converted.encode(text) == ids
    assert converted.decode(ids) == trained().decode(ids)


def test_everything_else_is_the_same(converted: HuggingFaceTokenizer) -> None:
    assert (converted.vocab_size, converted.eos_id, converted.pad_id) == (1200, 2, 3)
    assert converted.byte_lengths().tolist() == trained().byte_lengths().tolist()
    assert [converted.control_id(name) for name in CONTROL_TOKENS] == [4, 5, 6, 7]
    assert converted.control_id("<|nobody|>") is None


def test_plain_transformers_gives_the_same_ids_and_text(auto: Any) -> None:
    assert (auto.unk_token_id, auto.bos_token_id, auto.eos_token_id, auto.pad_token_id) == (0, 1, 2, 3)
    assert len(auto) == 1200
    for text in (*HARD_TEXTS, *library_texts("email/*.py", 3)):
        ids = auto(text).input_ids
        assert ids == trained().encode(text)  # nothing is added
        assert auto.decode(ids) == text
    assert auto("<|user|>hi</s>").input_ids == [5, *trained().encode("hi"), 2]
    assert auto.decode([1, 5, *trained().encode("hi"), 7, 2], skip_special_tokens=True) == "hi"


def test_a_template_is_written_beside_it(tmp_path: Path) -> None:
    write_huggingface(trained(), tmp_path, "{{ messages[0]['content'] }}{{ eos_token }}")
    auto = AutoTokenizer.from_pretrained(tmp_path)
    found = auto.apply_chat_template([{"role": "user", "content": "a b"}], return_dict=False)
    assert found == [*trained().encode("a b"), 2]


def test_a_dummy_prefix_is_kept(tmp_path: Path) -> None:
    tokenizer = SentencePieceTokenizer(train(add_dummy_prefix=True))
    write_huggingface(tokenizer, tmp_path)
    verify_conversion(tokenizer, tmp_path, [*HARD_TEXTS[:-1], *library_texts("json/*.py", 3)])


def test_a_model_of_characters_has_an_exact_form(tmp_path: Path) -> None:
    tokenizer = SentencePieceTokenizer(train(model_type="char", hard_vocab_limit=False))
    write_huggingface(tokenizer, tmp_path)
    verify_conversion(tokenizer, tmp_path, [*HARD_TEXTS[:-1], *library_texts("json/*.py", 3)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "unigram", "vocab_size": 600}, "not a plain sentencepiece BPE model"),
        ({"user_defined_symbols": ["<tool>"]}, "not a plain sentencepiece BPE model"),
        ({"normalization_rule_name": "nmt_nfkc"}, "normalises its input"),
        ({"remove_extra_whitespaces": True}, "normalises its input"),
    ],
)
def test_what_has_no_exact_form_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=f"{message}.*; train it with"):
        write_huggingface(SentencePieceTokenizer(train(**changes)), tmp_path)


def test_a_hugging_face_tokenizer_is_copied(tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer(write_byte_level(tmp_path / "original"))
    write_huggingface(tokenizer, tmp_path / "copy")
    assert load_tokenizer(tmp_path / "copy").fingerprint() == tokenizer.fingerprint()
    verify_conversion(tokenizer, tmp_path / "copy", library_texts("json/*.py", 2))


def test_the_first_difference_is_named(tmp_path: Path) -> None:
    write_huggingface(trained(), tmp_path)
    form = json.loads((tmp_path / "tokenizer.json").read_text())
    form["model"]["merges"] = [pair for pair in form["model"]["merges"] if "".join(pair) != "in"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(form))
    with pytest.raises(ExportError, match=r"ids of text 1 differ from position 2: .* instead of"):
        verify_conversion(trained(), tmp_path, ["xyz", "xyin"])
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<s>"}')
    with pytest.raises(ExportError, match=r"eos_id of .* is 1, the tokenizer's is 2"):
        verify_conversion(trained(), tmp_path, [])
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ExportError, match=r"has no tokenizer.json"):
        verify_conversion(trained(), tmp_path, [])
