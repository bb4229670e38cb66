"""What all filters have in common."""

from collections.abc import MutableMapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.filters import build_filters, check_cleaning, check_filters, filter_inputs
from data_prep.filters.base import Dropped, Filter, apply_all
from data_prep.filters.cleaning import clean_text
from pipeline.config.prep.filters import (
    C4Quality,
    Cleaning,
    CustomFilter,
    Decontaminate,
    FineWebQuality,
    GopherQuality,
    GopherRepetition,
    LanguageFilter,
    PersonalData,
    UrlFilter,
)
from pipeline.config.prep.filters import Filter as FilterConfig
from pipeline.errors import ConfigError
from tests.unit.data_prep.filter_texts import NOTICES

EVERYTHING: list[FilterConfig] = [
    GopherQuality(type="gopher_quality", min_words=0),
    GopherRepetition(type="gopher_repetition"),
    C4Quality(type="c4_quality", min_sentences=0),
    FineWebQuality(type="fineweb_quality"),
    UrlFilter(type="url", domains=("example.com",), words=("casino",)),
    LanguageFilter(type="language", keep=("en",)),
    PersonalData(type="personal_data"),
]
PIECES = [
    "the", "word", "Wörter", "漢字", "हिन्दी", "...", "…", "#", "•", "-", "{", "@", "a@b.org",
    "8.8.4.40", "2001:4860::1", "+49 30 90182",
    "(212) 555-0199", "'", '"', ".", "[1]", "\n", "\n\n", "\t", " ", "\u2028", "\x0b",
    "\ufffd", "e\u0301", "\U0001f600", "0" * 40,
]  # fmt: skip
TEXTS = st.text() | st.lists(st.sampled_from(PIECES + NOTICES), max_size=80).map(" ".join)


@pytest.fixture(scope="module")
def filters(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Filter]]:
    path = tmp_path_factory.mktemp("evaluation") / "test.txt"
    path.write_text("the word the word the word the word")
    contamination = Decontaminate(type="decontaminate", paths=(str(path),), ngram=4, min_words=2)
    return build_filters(Cleaning(min_characters=0, repair=True), [*EVERYTHING, contamination])


def test_names_are_distinct_and_in_order() -> None:
    configs = [EVERYTHING[0], EVERYTHING[6], EVERYTHING[0], EVERYTHING[0]]
    names = [name for name, _ in build_filters(Cleaning(), configs)]
    assert names == ["cleaning", "gopher_quality", "personal_data", "gopher_quality_2", "gopher_quality_3"]


@given(text=TEXTS, url=st.none() | st.text())
def test_filters_never_fail_and_hold_no_state(filters: list[tuple[str, Filter]], text: str, url: str | None) -> None:
    text = clean_text(text, Cleaning())
    for name, filter_ in filters:
        first, second = ({} if url is None else {"url": url} for _ in range(2))
        judged = filter_(text, first)
        filter_("Something else in between, which is not long.", {})
        assert filter_(text, second) == judged, name
        assert first == second
        if isinstance(judged, str):
            judged.encode("utf-8")
        else:
            assert not judged.reason.startswith(name)  # it is put before the reason
            assert ":" not in judged.reason


@given(text=TEXTS)
def test_only_cleaning_c4_and_personal_data_change_a_text(filters: list[tuple[str, Filter]], text: str) -> None:
    text = clean_text(text, Cleaning())
    for name, filter_ in filters:
        judged = filter_(text, {})
        assert isinstance(judged, Dropped) or judged == text or name in ("cleaning", "c4_quality", "personal_data")


@given(text=TEXTS)
def test_c4_gives_back_lines_of_the_text(text: str) -> None:
    text = clean_text(text, Cleaning())
    config = C4Quality(type="c4_quality", remove_citations=False, min_sentences=1)
    judged = build_filters(Cleaning(), [config])[1][1](text, {})
    if isinstance(judged, str):
        lines = iter(line.strip() for line in text.splitlines())
        assert all(line in lines for line in judged.split("\n"))  # in their order: `in` moves the iterator on


def test_the_files_that_filters_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.jsonl", "a.jsonl", "domains", "urls", "model.bin"):
        (tmp_path / name).touch()
    (tmp_path / "told_filters.py").write_text("def keep(text, metadata):\n    return text\n")
    monkeypatch.chdir(tmp_path)
    configs = [
        EVERYTHING[0],
        UrlFilter(type="url", domain_files=("domains",), url_files=("urls",)),
        LanguageFilter(type="language", keep=("en",), detector="fasttext", model="model.bin"),
        EVERYTHING[5],
        CustomFilter(type="custom", function="told_filters:keep"),
        CustomFilter(type="custom", function="sys:intern"),
        CustomFilter(type="custom", function="no.such_module:keep"),
        Decontaminate(type="decontaminate", paths=("*.jsonl",)),
    ]
    expected = ["domains", "urls", "model.bin", str(tmp_path / "told_filters.py"), "a.jsonl", "b.jsonl"]
    assert filter_inputs(configs) == expected


def test_all_is_well() -> None:
    check_filters(EVERYTHING)
    check_cleaning(Cleaning(repair=True))


def test_a_check_finds_the_second_filters_mistake() -> None:
    with pytest.raises(ConfigError, match=r"'nothing\*' matches no file"):
        check_filters([EVERYTHING[0], Decontaminate(type="decontaminate", paths=("nothing*",))])


def test_what_all_filters_leave_of_a_text_and_which_of_them_dropped_it() -> None:
    def shout(text: str, metadata: MutableMapping[str, str]) -> str:
        metadata["loud"] = "yes"
        return text.upper()

    def short(text: str, metadata: MutableMapping[str, str]) -> str | Dropped:
        return text if len(text) > 3 else Dropped("short")

    found: dict[str, str] = {}
    steps: list[tuple[str, Filter]] = [("shout", shout), ("rule", short), ("shout_2", shout)]
    assert apply_all(steps, "long", found) == ("LONG", None)
    assert found == {"loud": "yes"}
    assert apply_all(steps, "no", {}) == ("NO", "rule:short")
    assert apply_all([], "no", {}) == ("no", None)
