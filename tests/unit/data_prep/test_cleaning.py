import sys
import unicodedata
from collections.abc import Callable
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.filters import check_cleaning
from data_prep.filters.base import Dropped
from data_prep.filters.cleaning import build, clean_text, drop_reason
from pipeline.config.prep.filters import Cleaning
from pipeline.errors import MissingDependencyError

CLEANING = Cleaning(min_characters=5, max_replacement_share=0.1)
CHARACTERS = st.characters(categories=["L", "N", "P", "Z", "C", "S", "M"])


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


@given(st.text(CHARACTERS))
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
    assert build(CLEANING)(text, {}) == (Dropped(reason) if reason else text)


def test_white_space_alone_is_no_document() -> None:
    assert drop_reason(" \n", Cleaning(min_characters=0)) == "too_short"
    assert drop_reason("x", Cleaning(min_characters=0)) is None


def test_length_is_that_of_the_cleaned_text() -> None:
    assert build(CLEANING)("ab\0\0\0", {}) == Dropped("too_short")


def misread(text: str) -> str:
    """Text in UTF-8 that was taken for Windows-1252."""
    return text.encode("utf-8").decode("windows-1252")


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        (misread("voici le café, sólo\n") + "“and a line” as it is", "voici le café, sólo\n“and a line” as it is"),
        (misread(misread("it’s doubly wrong: “quoted")), "it’s doubly wrong: “quoted"),
        ("“Curly” quotes, \ufb01 ligatures & &amp; stay", "“Curly” quotes, \ufb01 ligatures & &amp; stay"),
        ("Übung – 漢字 – здравствуйте – naïve", "Übung – 漢字 – здравствуйте – naïve"),
        ("plain", "plain"),
    ],
)
def test_mojibake_is_repaired_and_nothing_else(text: str, repaired: str) -> None:
    assert build(Cleaning(repair=True, min_characters=0))(text, {}) == repaired
    assert build(Cleaning(min_characters=0))(text, {}) == text


@given(st.text(CHARACTERS) | st.text(st.sampled_from("aÃâ€™Â©\u009d\r\n\ud800\u0301 ")))
def test_repaired_text_is_clean(text: str) -> None:
    cleaning = Cleaning(repair=True, min_characters=0, max_replacement_share=1)
    cleaned = build(cleaning)(text, {})
    assert isinstance(cleaned, Dropped) or clean_text(cleaned, cleaning) == cleaned


def test_repair_without_ftfy_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    check_cleaning(Cleaning())
    with pytest.raises(MissingDependencyError, match=r"cleaning.repair needs ftfy; .*pip install 'tarmac\[quality\]'"):
        check_cleaning(Cleaning(repair=True))


def fastest(function: Callable[[], object]) -> float:
    """Seconds of the quickest of many calls."""
    seconds = []
    for _ in range(20):
        start = process_time()
        function()
        seconds.append(process_time() - start)
    return min(seconds)


@pytest.mark.parametrize("sentence", ["Nothing to do here. ", "Schön, nichts zu tun. ", "“Quoted” text… "])
def test_clean_text_passes_quickly_and_is_not_copied(sentence: str) -> None:
    text = sentence * (1_000_000 // len(sentence.encode()))
    clean = build(Cleaning())
    assert clean(text, {}) is text
    assert fastest(lambda: clean(text, {})) < 0.01  # 1 to 2 ms per MB where nothing else runs
