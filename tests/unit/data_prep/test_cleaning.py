import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.filters.cleaning import clean_text
from data_prep.filters.rules import drop_reason
from pipeline.config.prep import Cleaning

CLEANING = Cleaning(min_characters=5, max_replacement_share=0.1)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("one\r\ntwo\rthree\n", "one\ntwo\nthree\n"),
        ("a\0b", "ab"),
        ("e\u0301", "\u00e9"),
        ("half \ud83d of a pair", "half \ufffd of a pair"),
        ("\tindented  twice \n\n", "\tindented  twice \n\n"),
    ],
)
def test_cleaning(text: str, cleaned: str) -> None:
    assert clean_text(text, CLEANING) == cleaned


def test_normalization_is_the_configs() -> None:
    assert clean_text("e\u0301 \ufb01", Cleaning(normalization="none")) == "e\u0301 \ufb01"
    assert clean_text("e\u0301 \ufb01", Cleaning(normalization="NFKC")) == "\u00e9 fi"


@given(st.text(st.characters(categories=["L", "N", "P", "Z", "C", "S", "M"])))
def test_cleaned_text_is_utf8_in_its_normal_form_and_stays_as_it_is(text: str) -> None:
    cleaned = clean_text(text, CLEANING)
    cleaned.encode("utf-8")
    assert unicodedata.is_normalized("NFC", cleaned)
    assert clean_text(cleaned, CLEANING) == cleaned


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("12345", None),
        ("1234", "too_short"),
        ("   12   \n\n", "too_short"),
        ("", "too_short"),
        ("123456789\ufffd", None),
        ("1234567\ufffd\ufffd", "undecodable"),
    ],
)
def test_reasons(text: str, reason: str | None) -> None:
    assert drop_reason(text, CLEANING) == reason


def test_white_space_alone_is_no_document() -> None:
    assert drop_reason(" \n", Cleaning(min_characters=0)) == "too_short"
    assert drop_reason("x", Cleaning(min_characters=0)) is None
