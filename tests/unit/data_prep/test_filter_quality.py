"""The quality rules against datatrove's blocks, which many corpora were made with.

datatrove splits words and sentences with spaCy; here both use our splitting and our notion of a sign, so that what is
compared is the rules.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import (
    c4_filters,
    fineweb_quality_filter,
    gopher_quality_filter,
    gopher_repetition_filter,
)

from data_prep.filters import build_filters
from data_prep.filters.base import Dropped, Filter
from data_prep.filters.words import count_sentences, has_meaning, split_words
from pipeline.config.prep.filters import C4Quality, Cleaning, FineWebQuality, GopherQuality, GopherRepetition
from pipeline.config.prep.filters import Filter as FilterConfig
from tests.unit.data_prep.filter_texts import library_texts, made_texts

REASONS = {
    "gopher_short_doc": "too_few_words",
    "gopher_long_doc": "too_many_words",
    "gopher_below_avg_threshold": "short_words",
    "gopher_above_avg_threshold": "long_words",
    "gopher_too_many_hashes": "many_hashes",
    "gopher_too_many_ellipsis": "many_ellipses",
    "gopher_too_many_bullets": "many_bullet_lines",
    "gopher_too_many_end_ellipsis": "many_ellipsis_lines",
    "gopher_below_alpha_threshold": "few_alphabetic_words",
    "gopher_enough_stop_words": "few_stop_words",
    "dup_para_frac": "duplicate_paragraphs",
    "dup_para_char_frac": "duplicate_paragraph_characters",
    "dup_line_frac": "duplicate_lines",
    "dup_line_char_frac": "duplicate_line_characters",
    "line_punct_ratio": "few_punctuated_lines",
    "short_line_ratio": "many_short_lines",
    "char_dup_ratio": "duplicate_line_characters",
    "list_ratio": "many_line_feeds",
    **{f"duplicated_{n}_n_grams": f"duplicate_{n}_grams" for n in range(3, 11)},
}
"""datatrove's name -> ours, where they differ."""


class Signs:
    """What counts as a sign: everything but letters, marks and digits."""

    def __contains__(self, character: str) -> bool:
        return not has_meaning(character)


@pytest.fixture(autouse=True)
def same_splitting(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter):
        monkeypatch.setattr(module, "split_into_words", lambda text, language: split_words(text))
    monkeypatch.setattr(gopher_quality_filter, "PUNCTUATION_SET", Signs())
    monkeypatch.setattr(c4_filters, "split_into_sentences", lambda text, language: [""] * count_sentences(text))


def build(config: FilterConfig) -> Filter:
    return build_filters(Cleaning(), [config])[1][1]


def oracle(block: Any) -> Callable[[str], str | Dropped]:
    """A datatrove block as a function like ours."""

    def judge(text: str) -> str | Dropped:
        document = Document(text=text, id="0")
        kept = block.filter(document)
        if kept is True:
            return document.text
        return Dropped(REASONS.get(kept[1], kept[1]))

    return judge


DEFAULTS: list[tuple[FilterConfig, Any]] = [
    (GopherQuality(type="gopher_quality"), gopher_quality_filter.GopherQualityFilter()),
    (GopherRepetition(type="gopher_repetition"), gopher_repetition_filter.GopherRepetitionFilter()),
    (C4Quality(type="c4_quality"), c4_filters.C4QualityFilter()),
    (FineWebQuality(type="fineweb_quality"), fineweb_quality_filter.FineWebQualityFilter()),
]
OTHERS: list[tuple[FilterConfig, Any]] = [
    (
        GopherQuality(
            type="gopher_quality", min_words=1, max_words=200, min_mean_word_length=2, max_mean_word_length=7,
            max_symbol_word_ratio=0.2, max_bullet_line_share=0.5, max_ellipsis_line_share=0.6,
            min_alphabetic_word_share=0.6, min_stop_words=3, stop_words=("harbour", "in", "the", "is", "a"),
        ),
        gopher_quality_filter.GopherQualityFilter(
            1, 200, 2, 7, 0.2, 0.5, 0.6, 0.6, 3, ["harbour", "in", "the", "is", "a"]
        ),
    ),
    (
        GopherRepetition(
            type="gopher_repetition", max_duplicate_line_share=0.9, max_duplicate_paragraph_share=0.9,
            max_duplicate_line_character_share=0.9, max_duplicate_paragraph_character_share=0.9,
            top_ngrams=((2, 0.05), (3, 0.04)), duplicate_ngrams=((7, 0.2), (3, 0.3), (4, 0.2), (5, 0.1), (6, 0.05)),
        ),
        gopher_repetition_filter.GopherRepetitionFilter(
            0.9, 0.9, 0.9, 0.9, ((2, 0.05), (3, 0.04)), ((3, 0.3), (4, 0.2), (5, 0.1), (6, 0.05), (7, 0.2))
        ),
    ),
    (
        C4Quality(
            type="c4_quality", require_terminal_punctuation=False, min_words_per_line=5, max_word_length=9,
            min_sentences=2, drop_javascript_lines=False, drop_policy_lines=False, drop_lorem_ipsum=False,
            drop_curly_brackets=False, remove_citations=False,
        ),
        c4_filters.C4QualityFilter(
            remove_citations=False, filter_no_terminal_punct=False, min_num_sentences=2, min_words_per_line=5,
            max_word_length=9, filter_lorem_ipsum=False, filter_javascript=False, filter_curly_bracket=False,
            filter_policy=False,
        ),
    ),
    (
        FineWebQuality(
            type="fineweb_quality", min_punctuated_line_share=0.4, short_line_length=60, max_short_line_share=0.8,
            max_duplicate_line_character_share=0.2, max_newline_word_ratio=0.05,
        ),
        fineweb_quality_filter.FineWebQualityFilter(
            line_punct_thr=0.4, short_line_thr=0.8, short_line_length=60, char_duplicates_ratio=0.2, new_line_ratio=0.05
        ),
    ),
]  # fmt: skip


def ids(cases: list[tuple[FilterConfig, Any]]) -> list[str]:
    return [config.type for config, _ in cases]


def compare(config: FilterConfig, block: Any, texts: Iterator[str]) -> set[str]:
    """The reasons seen; both sides agreed on each."""
    ours, theirs, seen = build(config), oracle(block), set[str]()
    for text in filter(str.strip, texts):
        judged = ours(text, {})
        expected = theirs(text)
        if judged == Dropped("no_line_left"):  # datatrove keeps the document, empty
            assert expected == ""
            continue
        assert judged == expected, text[:300]
        seen.add(judged.reason if isinstance(judged, Dropped) else "kept")
    return seen


@pytest.mark.parametrize(("config", "block"), DEFAULTS, ids=ids(DEFAULTS))
def test_made_texts_are_judged_as_datatrove_judges(config: FilterConfig, block: Any) -> None:
    seen = compare(config, block, made_texts(1000))
    assert "kept" in seen
    assert (
        len(seen) >= {"gopher_quality": 10, "gopher_repetition": 13, "c4_quality": 4, "fineweb_quality": 5}[config.type]
    )


@pytest.mark.parametrize(("config", "block"), OTHERS, ids=ids(OTHERS))
def test_other_limits_are_judged_as_datatrove_judges(config: FilterConfig, block: Any) -> None:
    assert len(compare(config, block, made_texts(1000))) >= 2


@pytest.mark.parametrize(("config", "block"), DEFAULTS + OTHERS, ids=ids(DEFAULTS + OTHERS))
def test_the_standard_library_is_judged_as_datatrove_judges(config: FilterConfig, block: Any) -> None:
    compare(config, block, library_texts())


def real_texts(folder: Path) -> Iterator[str]:
    """Web pages, articles, chapters of novels."""
    for path in sorted((folder / "webcrawl").glob("*/*.json*")):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        yield from (json.loads(line)["text"] for line in content.splitlines())
    yield from (folder / "webcrawl/wiki/wiki_demo.txt").read_text(encoding="utf-8").split("\n")
    for path in [*sorted((folder / "british_fiction").glob("*.txt")), folder / "wikitext2/valid.txt"]:
        text = path.read_text(encoding="utf-8", errors="replace")
        yield from (text[start : start + 10_000] for start in range(0, len(text), 50_000))


@pytest.mark.realdata
@pytest.mark.parametrize(("config", "block"), DEFAULTS + OTHERS, ids=ids(DEFAULTS + OTHERS))
def test_real_texts_are_judged_as_datatrove_judges(realdata: Path, config: FilterConfig, block: Any) -> None:
    assert len(compare(config, block, real_texts(realdata))) >= 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, she said.", ["Don't", "stop", ",", "she", "said", "."]),
        ("'quoted' rock’n’roll", ["'", "quoted", "'", "rock’n’roll"]),
        ("a--b... (c)", ["a", "--", "b", "...", "(", "c", ")"]),
        ("naïve हिन्दी 漢字", ["naïve", "हिन्दी", "漢字"]),
        (" \n\t", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("text", "num_sentences"),
    [
        ("", 0), ("no end", 1), ("One. Two! Three?", 3), ('"One." Two', 2), ("3.14 is a number.", 1),
        ("Wait... what?!", 2), ("(In brackets.) Out", 2), ("。", 1),
    ],
)  # fmt: skip
def test_sentences(text: str, num_sentences: int) -> None:
    assert count_sentences(text) == num_sentences


@pytest.mark.parametrize("type_", ["gopher_quality", "c4_quality", "fineweb_quality"])
@pytest.mark.parametrize("text", ["", " ", "\n\n", "...", "word"])
def test_next_to_nothing_is_dropped(type_: str, text: str) -> None:
    config = next(config for config, _ in DEFAULTS if config.type == type_)
    assert isinstance(build(config)(text, {}), Dropped)


def test_the_first_reason_is_given() -> None:
    quality = build(GopherQuality(type="gopher_quality"))
    assert quality("# " * 100, {}) == Dropped("too_few_words")
    assert quality("a # " * 100, {}) == Dropped("short_words")
    assert quality("hash # " * 100, {}) == Dropped("many_hashes")


def test_lines_of_c4_are_lines_of_the_text() -> None:
    config = C4Quality(type="c4_quality", min_sentences=1, remove_citations=False)
    text = "  A line that ends well.  \nA heading\nAnother line that ends well!\nToo few.\nIt needs javascript to work."
    assert build(config)(text, {}) == "A line that ends well.\nAnother line that ends well!"
    assert build(config)("A heading\nToo few.", {}) == Dropped("too_few_sentences")
    assert build(config.model_copy(update={"min_sentences": 0}))("A heading", {}) == Dropped("no_line_left")


def test_limits_of_ngrams_hold_at_the_edge() -> None:
    """A share that equals the limit is no reason; one character more is."""
    text = "ab cd " * 2 + "efghijkl" * 4
    at_limit = GopherRepetition(type="gopher_repetition", top_ngrams=((2, 10 / 44),), duplicate_ngrams=((2, 4 / 44),))
    assert len(text) == 44
    assert build(at_limit)(text, {}) == text
    for change in ({"top_ngrams": ((2, 9.9 / 44),)}, {"duplicate_ngrams": ((2, 3.9 / 44),)}):
        assert isinstance(build(at_limit.model_copy(update=change))(text, {}), Dropped)
