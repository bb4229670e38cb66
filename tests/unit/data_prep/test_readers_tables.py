"""Tables: CSV and parquet."""

import csv
import gzip
import io
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.documents.document import BrokenRecord, Document
from data_prep.readers.csv_rows import _Row, _rows
from data_prep.readers.lines import read_lines
from tests.unit.data_prep.read_records import MIB, flaws, make_reader, read_all, texts


def test_rows_of_a_table(tmp_path: Path) -> None:
    content = '\ufeffid,text\r\n1,plain\r\n\r\n2,"two\r\nlines, and ""quotes"""\r\n3,\r\n'
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(content.encode()))
    assert read_all(make_reader("csv", tmp_path, metadata={"number": "id"})) == [
        Document("here", "a.csv.gz", 0, "plain", {"number": "1"}),
        Document("here", "a.csv.gz", 1, 'two\r\nlines, and "quotes"', {"number": "2"}),
        Document("here", "a.csv.gz", 2, "", {"number": "3"}),
    ]


def test_delimiters(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("id\ttext\n1\ta, b\n")
    (tmp_path / "b.csv").write_text("id;text\n1;a, b\n")
    assert texts(read_all(make_reader("csv", tmp_path / "a.tsv"))) == ["a, b"]
    assert texts(read_all(make_reader("csv", tmp_path / "b.csv", delimiter=";"))) == ["a, b"]


def test_broken_rows_are_passed_over(tmp_path: Path) -> None:
    rows = [b"id,text", b"1,a", b"1,2,3", b"only", b"2,\xff", b'3,"x"y', b"4,b", b'5,"never closed', b"6,c"]
    (tmp_path / "a.csv").write_bytes(b"\n".join(rows))
    found = read_all(make_reader("csv", tmp_path))
    assert texts(found) == ["a", "b"]
    reasons = ["wrong_columns", "wrong_columns", "bad_encoding", "bad_csv", "bad_csv"]
    assert [reason for _, reason in flaws(found)] == reasons
    assert [position for position, _ in flaws(found)] == [1, 2, 3, 4, 6]


def test_a_table_without_the_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,body\n1,a\n2,b\n")
    (tmp_path / "b.csv").write_text("")
    assert flaws(read_all(make_reader("csv", tmp_path))) == [(0, "no_text"), (1, "no_text")]


def test_long_fields_and_too_long_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.readers.lines.MAX_RECORD_BYTES", MIB)
    (tmp_path / "a.csv").write_text(f"text\n{'x' * 500_000}\n{'y' * (2 * MIB)}\nlast\n")
    found = read_all(make_reader("csv", tmp_path))
    assert [len(text) for text in texts(found)] == [500_000, 4]
    assert flaws(found) == [(1, "too_long")]


def test_a_cut_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"text\none\ntwo\n")[:-8])
    (tmp_path / "b.csv.gz").write_bytes(b"text\none\n")
    found = read_all(make_reader("csv", tmp_path))
    assert texts(found) == ["one", "two"]
    assert flaws(found) == [(2, "cut_short"), (0, "damaged_archive")]


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), max_size=5))
def test_any_table_that_csv_writes_is_read(rows: list[list[str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    stream = io.BufferedReader(io.BytesIO(file.getvalue().encode()))
    found = [row.fields if isinstance(row, _Row) else row for row in _rows(read_lines(stream), ",")]
    if file.getvalue().startswith("\ufeff"):
        return  # a mark at the very start is no text
    assert found == rows


def write_parquet(path: Path, **columns: object) -> None:
    pq.write_table(pa.table(columns), path, row_group_size=10)


def test_rows_of_parquet_row_groups_and_nested_columns(tmp_path: Path) -> None:
    words = [f"text {number}" for number in range(25)]
    meta = [{"url": f"http://x/{number}", "day": date(2024, 1, 1)} for number in range(25)]
    write_parquet(tmp_path / "a.parquet", text=words, meta=meta, other=list(range(25)))
    found = read_all(make_reader("parquet", tmp_path, metadata={"url": "meta.url", "day": "meta.day"}))
    assert found == [
        Document("here", "a.parquet", number, word, {"url": f"http://x/{number}", "day": "2024-01-01"})
        for number, word in enumerate(words)
    ]


@pytest.mark.parametrize("type_", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_kinds_of_text_columns(tmp_path: Path, type_: pa.DataType) -> None:
    write_parquet(tmp_path / "a.parquet", text=pa.array(["a", None, "b"]).cast(type_))
    found = read_all(make_reader("parquet", tmp_path))
    assert texts(found) == ["a", "b"]
    assert flaws(found) == [(1, "no_text")]


def test_only_needed_columns_are_read(tmp_path: Path) -> None:
    """A column that cannot be decoded does no harm unless it is asked for."""
    text, other = [f"{number}" * 50 for number in range(30)], [f"{number}" * 500 for number in range(30)]
    pq.write_table(pa.table({"text": text, "other": other}), tmp_path / "a.parquet", row_group_size=10)
    damage_column(tmp_path / "a.parquet", 1, 1)
    assert texts(read_all(make_reader("parquet", tmp_path))) == text
    found = read_all(make_reader("parquet", tmp_path, metadata={"other": "other"}))
    assert texts(found) == text[:10] + text[20:]
    assert flaws(found) == [(10, "damaged_row_group")]


def damage_column(path: Path, row_group: int, column: int) -> None:
    chunk = pq.ParquetFile(path).metadata.row_group(row_group).column(column)
    content = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)


def test_long_rows_are_decoded_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = [f"{number}" * (MIB // 2) for number in range(10)]
    pq.write_table(pa.table({"text": long, "a.b": long}), tmp_path / "a.parquet", use_dictionary=False)
    sizes, to_pylist = [], pa.RecordBatch.to_pylist

    def rows(batch: pa.RecordBatch) -> list[object]:
        sizes.append(batch.num_rows)
        return to_pylist(batch)

    monkeypatch.setattr("data_prep.readers.parquet._BATCH_BYTES", 2 * MIB)
    monkeypatch.setattr("data_prep.readers.parquet._rows", rows)
    assert texts(read_all(make_reader("parquet", tmp_path))) == long
    assert sizes == [3, 3, 3, 1]


def test_a_damaged_row_group_is_told_and_the_next_is_read(tmp_path: Path) -> None:
    words = [f"text {number}" for number in range(30)]
    write_parquet(tmp_path / "a.parquet", text=words)
    damage_column(tmp_path / "a.parquet", 1, 0)
    found = read_all(make_reader("parquet", tmp_path))
    assert texts(found) == words[:10] + words[20:]
    (broken,) = (record for record in found if isinstance(record, BrokenRecord))
    assert (broken.position, broken.reason) == (10, "damaged_row_group")
    assert "rows 10 to 19" in broken.detail
    assert isinstance(found[-1], Document)
    assert found[-1].position == 29


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    column = pa.array([b"a", b"\xff", b"b"]).view(pa.string())
    write_parquet(tmp_path / "a.parquet", text=column)
    found = read_all(make_reader("parquet", tmp_path))
    assert texts(found) == ["a", "b"]
    assert flaws(found) == [(1, "bad_encoding")]


def test_parquet_without_the_column(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", body=["a", "b", "c"])
    (broken,) = read_all(make_reader("parquet", tmp_path))
    assert broken == BrokenRecord("no_text", "a.parquet", 0, "text is no column; there are body", records=3)


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_what_is_no_whole_parquet_file(tmp_path: Path, keep: int) -> None:
    write_parquet(tmp_path / "a.parquet", text=["a", "b", "c"])
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:keep])
    assert flaws(read_all(make_reader("parquet", tmp_path))) == [(0, "damaged_archive")]


def test_an_empty_table(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", text=pa.array([], pa.string()))
    assert read_all(make_reader("parquet", tmp_path)) == []


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0, 10**18, 0], pa.timestamp("ms")),
        pa.array([0, 2**62, 0], pa.duration("s")),
    ],
    ids=["year", "duration"],
)
def test_a_value_that_python_cannot_hold_costs_its_row_alone(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"text": ["one", "two", "three"], "when": column}), tmp_path / "a.parquet")
    found = read_all(make_reader("parquet", tmp_path, metadata={"date": "when"}))
    assert texts(found) == ["one", "three"]
    assert flaws(found) == [(1, "bad_value")]
