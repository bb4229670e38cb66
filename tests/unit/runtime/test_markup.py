import pytest

from pipeline.runtime.markup import duration, fold, percent, short, size, table


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0, "0"), (999, "999"), (52_345, "52.3 k"), (999_900, "1000 k"), (7e9, "7 G")]
)
def test_short(value: float | None, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0 B"), (999, "999 B"), (31_400_000, "31.4 MB"), (999_600, "1 MB")])
def test_size(value: float, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.114, "0.114 s"), (59.7, "59.7 s"), (61, "1 min 1 s"), (7322, "2 h 2 min"), (200_000, "2 d 7 h")],
)
def test_duration(value: float, text: str) -> None:
    assert duration(value) == text


def test_number_columns_are_told_from_text() -> None:
    markup = table("t", ("a", "b"), [("1,234", "x"), ("–", "2"), ("3.1 MB", "2025-01-01")])
    assert markup.count('class="number"') == 4
    assert "&lt;i&gt;" in table("t", ("a",), [("<i>",)])


def test_a_table_without_rows_is_a_sentence() -> None:
    assert "None yet." in table("t", ("a",), [])
    assert "&lt;i&gt;" in table("t", ("a",), [], "<i>")


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "–"), (0, 5, "0.0%"), (1, 3, "33.3%"), (1, 2000, "<0.1%"), (1, 1000, "0.1%"), (7, 7, "100.0%")],
)
def test_percent(part: float, whole: float, text: str) -> None:
    assert percent(part, whole) == text
    assert 'class="number"' in table("t", ("a",), [(text,)])


def test_a_fold_escapes_its_title() -> None:
    assert fold("<b>", "<i>x</i>") == "<details><summary>&lt;b&gt;</summary><i>x</i></details>"
