import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import TokenizerError
from pipeline.tokenizer.huggingface import HuggingFaceTokenizer
from pipeline.tokenizer.load import load_tokenizer
from tests.unit.tokenizer.models import library_texts, write_byte_level, write_unigram

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_byte_level(tmp_path_factory.mktemp("byte-level") / "tokenizer")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(folder)


def test_indented_code_survives_a_round_trip(tokenizer: HuggingFaceTokenizer) -> None:
    for text in library_texts("email/*.py", 4):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=TEXTS)
@settings(max_examples=100)
def test_byte_level_text_survives_and_its_bytes_are_counted(tokenizer: HuggingFaceTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert int(tokenizer.byte_lengths()[ids].sum()) == len(text.encode("utf-8"))


def test_no_token_is_added(tokenizer: HuggingFaceTokenizer) -> None:
    assert tokenizer.encode("") == []
    assert tokenizer.eos_id not in tokenizer.encode("def f(): pass")
    assert tokenizer.encode_batch(["a", "", "b c"]) == [tokenizer.encode(text) for text in ("a", "", "b c")]


def test_control_tokens_have_ids_and_no_text_makes_them(tokenizer: HuggingFaceTokenizer) -> None:
    assert tokenizer.control_id("<|endoftext|>") == tokenizer.eos_id == tokenizer.pad_id == 0
    assert tokenizer.control_id("<|user|>") == tokenizer.vocab_size - 1
    assert tokenizer.control_id("<tool>") is None
    for name in ("<|endoftext|>", "<|user|>"):
        ids = tokenizer.encode(f"a{name} b")
        assert tokenizer.control_id(name) not in ids
        assert tokenizer.decode(ids) == f"a{name} b"
        assert tokenizer.byte_lengths()[tokenizer.control_id(name)] == 0
    assert tokenizer.decode([tokenizer.vocab_size - 1, *tokenizer.encode("a"), 0]) == "a"


def test_an_added_token_that_is_not_special_stays_text(tokenizer: HuggingFaceTokenizer) -> None:
    ids = tokenizer.encode("<tool>")
    assert len(ids) == 1
    assert tokenizer.byte_lengths()[ids[0]] == len("<tool>")
    assert tokenizer.decode(ids) == "<tool>"


def test_a_unigram_models_own_control_piece_is_not_found_in_text(tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer(write_unigram(tmp_path / "tokenizer"))
    ids = tokenizer.encode("a</s> b")
    assert tokenizer.eos_id == 0
    assert 0 not in ids
    assert tokenizer.decode(ids) == "a</s> b"
    assert int(tokenizer.byte_lengths()[ids].sum()) == len("a</s> b")


def test_roles_are_found_in_either_file(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path / "tokenizer", eos_token=None, pad_token="<|user|>")
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<|endoftext|>"}}))
    tokenizer = HuggingFaceTokenizer(folder)
    assert (tokenizer.eos_id, tokenizer.pad_id) == (0, tokenizer.vocab_size - 1)


def test_saved_files_are_the_same_and_the_fingerprint_is_theirs(folder: Path, tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer(folder)
    tokenizer.save(tmp_path / "copy")
    for path in folder.iterdir():
        assert (tmp_path / "copy" / path.name).read_bytes() == path.read_bytes()
    assert load_tokenizer(tmp_path / "copy").fingerprint() == tokenizer.fingerprint()
    (tmp_path / "copy" / "tokenizer_config.json").write_text('{"eos_token": "<|user|>"}')
    assert load_tokenizer(tmp_path / "copy").fingerprint() != tokenizer.fingerprint()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", '{"model": ', r"tokenizer.json is not valid JSON .*; give a whole file"),
        ("tokenizer.json", "[]", r"must hold a JSON object, found list"),
        ("tokenizer.json", '{"model": {"type": "BPE"}}', r"tokenizer.json is not a tokenizer .*; give a whole file"),
        (
            "tokenizer.json",
            '{"model": {"type": "Unigram"}}',
            r"tokenizer.json is not a tokenizer .*; give a whole file",
        ),
        ("tokenizer_config.json", "{}", r"names no eos_token; add one to its tokenizer_config.json"),
        ("tokenizer_config.json", '{"eos_token": "<end>"}', r"eos_token is '<end>', which the vocabulary lacks"),
    ],
)
def test_damage_is_told_in_one_sentence(folder: Path, tmp_path: Path, name: str, content: str, message: str) -> None:
    HuggingFaceTokenizer(folder).save(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(TokenizerError, match=message) as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"nothing has no tokenizer.json; give a tokenizer's folder"):
        HuggingFaceTokenizer(tmp_path / "nothing")


def test_a_file_in_place_of_its_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").touch()
    with pytest.raises(TokenizerError) as error:
        load_tokenizer(tmp_path / "tokenizer.json")
    assert str(error.value) == f"tokenizer {tmp_path}/tokenizer.json is a file; give its folder, {tmp_path}"
