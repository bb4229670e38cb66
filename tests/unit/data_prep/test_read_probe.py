import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.readers import find_files
from data_prep.reading.probe import require_text, spread
from pipeline.config.prep.recipe import Source
from pipeline.errors import CorpusError
from tests.unit.data_prep.read_records import make_reader


def probe(type_: str, folder: Path, share: float = 0.05, **settings: Any) -> None:
    reader = make_reader(type_, folder, **settings)
    require_text(Source(name="web", reader=reader, max_rejected_share=share), find_files(reader))


def write_lines(path: Path, number: int, *names: str) -> None:
    path.write_text("".join(json.dumps(dict.fromkeys(names, "x")) + "\n" for _ in range(number)))


def test_a_misspelt_field_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", 3000, "id", "body", "junk")
    sentence = (
        "source 'web': none of 1000 records at the beginnings of its files has the text asked for; record 0 of a.jsonl:"
        " bdy is not there; there are id, body, junk; correct the reader's fields"
    )
    with pytest.raises(CorpusError) as caught:
        probe("jsonl", tmp_path, text_field="bdy")
    assert str(caught.value) == sentence
    probe("jsonl", tmp_path, text_field="body")


def test_of_many_names_the_first_are_told(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", 1, *(f"f{number}" for number in range(20)))
    with pytest.raises(CorpusError, match=r"there are f0, f1, f2, f3, f4, f5, f6, f7, …; correct"):
        probe("jsonl", tmp_path)


def test_columns_of_parquet_and_csv(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2], "body": ["a", "b"]}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("id,body\n1,a\n")
    for type_, sentence in (("parquet", "bdy is no column"), ("csv", "bdy is not there")):
        with pytest.raises(CorpusError, match=f"{sentence}; there are id, body; correct"):
            probe(type_, tmp_path, text_field="bdy")
        probe(type_, tmp_path, text_field="body")


def test_one_file_without_text_does_not_stop_the_others(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", 2000, "about")
    write_lines(tmp_path / "b.jsonl", 1, "text")
    probe("jsonl", tmp_path)


def test_records_without_text_are_no_matter_where_all_may_be_bad(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", 2000, "body")
    probe("jsonl", tmp_path, share=1)


def test_few_records_of_many_files_tell_nothing(tmp_path: Path) -> None:
    for number in range(17):
        write_lines(tmp_path / f"{number:02}.jsonl", 1, "body")
    probe("jsonl", tmp_path)


def test_files_are_taken_from_all_over(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.txt").touch()
    files = find_files(make_reader("text", tmp_path))
    assert [file.origin for file in spread(files, 3)] == ["0.txt", "3.txt", "6.txt"]
    assert spread(files, 99) == files
