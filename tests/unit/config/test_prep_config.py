"""What a config of data preparation refuses, and in which words."""

from typing import Any

import pytest

from pipeline.config.load import validate
from pipeline.config.prep.recipe import PrepConfig
from pipeline.errors import ConfigError

PREP: dict[str, Any] = {
    "stage": "prep",
    "output": "out",
    "sources": [{"name": "web", "reader": {"type": "csv", "paths": ["in"]}}],
    "tokenizer": {"type": "train", "vocab_size": 400},
}


def with_reader(**values: Any) -> dict[str, Any]:
    return {"sources": [{"name": "web", "reader": {"type": "csv", "paths": ["in"], **values}}]}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"output": "a\0b"}, "output"),
        ({"work": "a\0b"}, "work"),
        (with_reader(paths=["a", "a\0b"]), "sources.0.reader.csv.paths.1"),
        ({"tokenizer": {"type": "given", "path": "a\0b"}}, "tokenizer.given.path"),
        ({"filters": [{"type": "url", "url_files": ["a\0b"]}]}, "filters.0.url.url_files.0"),
        ({"filters": [{"type": "url", "domain_files": ["a\0b"]}]}, "filters.0.url.domain_files.0"),
        ({"filters": [{"type": "decontaminate", "paths": ["a\0b"]}]}, "filters.0.decontaminate.paths.0"),
    ],
)
def test_no_name_holds_a_nul(values: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate(PrepConfig, {**PREP, **values}, "my.yaml")
    assert "holds a NUL character, which no file's name can; take it out" in str(error.value)
    assert field.split(".")[-1] in str(error.value)


@pytest.mark.parametrize("delimiter", ["\n", "\r", '"', "\0", "", ";;"])
def test_what_cannot_separate_columns_is_refused(delimiter: str) -> None:
    with pytest.raises(ConfigError, match="delimiter"):
        validate(PrepConfig, {**PREP, **with_reader(delimiter=delimiter)}, "my.yaml")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
def test_what_separates_columns_is_taken(delimiter: str) -> None:
    validate(PrepConfig, {**PREP, **with_reader(delimiter=delimiter)}, "my.yaml")


@pytest.mark.parametrize("ngram", [0, 101])
def test_the_words_of_an_ngram_have_a_bound(ngram: int) -> None:
    with pytest.raises(ConfigError, match=f"held_out.ngram is {ngram}; input should be"):
        validate(PrepConfig, {**PREP, "held_out": {"ngram": ngram}}, "my.yaml")


@pytest.mark.parametrize("name", ["Web", "-a", "a b", ""])
def test_a_name_that_is_no_folder_is_told_in_words(name: str) -> None:
    told = rf"sources\.0\.name is '{name}'; it must be lower-case letters, digits, _ and -, beginning with a letter or"
    with pytest.raises(ConfigError, match=told):
        validate(PrepConfig, {**PREP, "sources": [{"name": name, "reader": {"type": "stdlib"}}]}, "test")
