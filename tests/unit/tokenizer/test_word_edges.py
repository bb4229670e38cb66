"""Where words begin, and which token stands for a hidden one."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from pipeline.errors import TokenizerError
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.convert import write_huggingface
from pipeline.tokenizer.huggingface import HuggingFaceTokenizer
from pipeline.tokenizer.sentencepiece import SentencePieceTokenizer
from tests.unit.tokenizer.models import (
    CONTROL_TOKENS,
    _write,
    library_texts,
    train,
    trained,
    write_byte_level,
    write_unigram,
    write_word_piece,
)


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    """A text's tokens, those of a word together."""
    begins, ends = tokenizer.word_edges()
    ids = np.array(tokenizer.encode(text))
    is_first = np.append(True, begins[ids[1:]] | ends[ids[:-1]])
    return [tokenizer.decode(one.tolist()) for one in np.split(ids, np.flatnonzero(is_first)[1:])]


@pytest.mark.parametrize("form", ["sentencepiece", "byte level", "unigram", "exported"])
def test_words_begin_at_white_space_and_behind_line_ends(form: str, tmp_path: Path) -> None:
    if form == "exported":
        write_huggingface(trained(), tmp_path / "tokenizer")
    tokenizer = {
        "sentencepiece": trained,
        "byte level": lambda: HuggingFaceTokenizer(write_byte_level(tmp_path / "tokenizer")),
        "unigram": lambda: HuggingFaceTokenizer(write_unigram(tmp_path / "tokenizer")),
        "exported": lambda: HuggingFaceTokenizer(tmp_path / "tokenizer"),
    }[form]()
    text = library_texts("json/*.py", 1)[0].replace("\n", "\n" if form != "unigram" else " ")[:2000]
    found = words(tokenizer, text)
    assert "".join(found) == text
    assert not any(character.isspace() for word in found for character in word.strip())
    assert all(word[0].isspace() or before[-1].isspace() for before, word in pairwise(found))


def test_word_pieces_that_go_on_begin_no_word(tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer(write_word_piece(tmp_path / "tokenizer"))
    begins, ends = tokenizer.word_edges()
    assert [tokenizer.encode("walk walking walks.")] == [[3, 3, 4, 3, 5, 6]]
    assert begins[[3, 4, 5, 6]].tolist() == [True, False, False, True]
    assert not ends.any()
    assert tokenizer.mask_id == 2


def test_tokens_without_white_space_tell_no_words(tmp_path: Path) -> None:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "e": 2}, unk_token="e"))
    tokenizer = HuggingFaceTokenizer(_write(made, tmp_path / "tokenizer", {"eos_token": "e"}))
    with pytest.raises(TokenizerError, match=r"objective.whole_words is true, and no token .*; set it to false"):
        tokenizer.word_edges()


def test_a_control_token_of_that_name_is_the_mask_and_is_exported_as_such(tmp_path: Path) -> None:
    assert trained().mask_id is None
    tokenizer = SentencePieceTokenizer(train(control_symbols=[*CONTROL_TOKENS, "<mask>"]))
    assert tokenizer.mask_id == tokenizer.control_id("<mask>")
    write_huggingface(tokenizer, tmp_path)
    assert HuggingFaceTokenizer(tmp_path).mask_id == tokenizer.mask_id
