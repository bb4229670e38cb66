"""Lines of JSON, arrays and objects."""

import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.documents.document import BrokenRecord, Document
from data_prep.readers import json_values
from data_prep.readers.flaw import Flaw
from data_prep.readers.json_values import parse_line, read_values
from data_prep.readers.jsonl import _is_one_value
from pipeline.config.prep.readers import Reader
from tests.unit.data_prep.read_records import MIB, flaws, make_reader, read_all, texts

LINES = b'{"text": "one"}\n\n{"text": 2}\nnot json\n["text"]\n{"text": "caf\xc3\xa9"}\n{"text": "\xff"}\n{"t": "x"}'


def jsonl(path: Path, **settings: object) -> Reader:
    return make_reader("jsonl", path, **settings)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.json.gz", "a.jsonl.gz"])
def test_lines(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(LINES) if name.endswith(".gz") else LINES)
    found = read_all(jsonl(tmp_path))
    assert [record for record in found if isinstance(record, Document)] == [
        Document("here", name, 0, "one"),
        Document("here", name, 5, "caf\u00e9"),
    ]
    broken = [(2, "no_text"), (3, "broken_json"), (4, "no_text"), (6, "bad_encoding"), (7, "no_text")]
    assert flaws(found) == broken


def test_a_broken_record_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    details = [record.detail for record in read_all(jsonl(tmp_path)) if isinstance(record, BrokenRecord)]
    assert details[0] == "text is int, not text"
    assert details[-1] == "text is not there; there are t"
    assert all(details)


def test_nested_text_and_metadata(tmp_path: Path) -> None:
    record = {"a": {"b": "the text", "n": None}, "x.y": "literal", "x": {"y": "nested"}, "many": [1, "é"], "yes": True}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + '\n{"a": "no record"}\n{"a": {"b": ""}}\n')
    names = {"dotted": "x.y", "many": "many", "yes": "yes", "none": "a.n", "deep": "a.b.c", "inner": "x"}
    found = read_all(jsonl(tmp_path, text_field="a.b", metadata=names))
    metadata = {"dotted": "literal", "many": '[1, "é"]', "yes": "true", "inner": '{"y": "nested"}'}
    assert found == [
        Document("here", "a.jsonl", 0, "the text", metadata),
        BrokenRecord("no_text", "a.jsonl", 1, "a.b is not there; there are a"),
        Document("here", "a.jsonl", 2, "", {}),
    ]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'\xef\xbb\xbf{"text": "mark"}', "mark"),
        (b'{"text": "nan", "score": NaN, "more": -Infinity, "huge": 1e999}', "nan"),
        (b'{"text": "half \\ud83d and \\ude00 whole \\ud83d\\ude00"}', "half \ufffd and \ufffd whole \U0001f600"),
        (b'{"text": "zero \\u0000"}', "zero \0"),
        (b'{"text": "a", "text": "b"}', "b"),
        (b' \t{"text": "space"} \r\n', "space"),
    ],
)
def test_what_strict_parsers_refuse_and_datasets_hold(line: bytes, text: str) -> None:
    value = parse_line(line)
    assert value["text"] == text
    assert text.encode("utf-8")


SCALARS = st.text() | st.integers(-(2**63), 2**64 - 1) | st.none() | st.booleans() | st.floats()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@given(VALUES)
def test_any_line_that_json_writes_is_read(value: object) -> None:
    assert repr(parse_line(json.dumps(value).encode())) == repr(json.loads(json.dumps(value)))


@given(st.binary(max_size=30))
def test_no_line_raises(line: bytes) -> None:
    for start in (b"", b'{"text": "', b'{"text": "\\ud8'):
        parse_line(start + line)
        parse_line(start + line + b'"}')


def test_deep_json_is_a_broken_record(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.json"):
        (tmp_path / name).write_text("[" * 200_000)
    found = read_all(jsonl(tmp_path))
    assert flaws(found) == [(0, "broken_json"), (0, "broken_json")]


def test_a_line_that_is_too_long_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.readers.lines.MAX_RECORD_BYTES", MIB)
    long = b'{"text": "' + b"x" * (3 * MIB) + b'"}\n'
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n' + long + b'{"text": "b"}\n' + long[:-1])
    found = read_all(jsonl(tmp_path))
    assert texts(found) == ["a", "b"]
    assert flaws(found) == [(1, "too_long"), (3, "too_long")]


ARRAYS = [
    b'[{"text": "a"}, {"text": "b"}]',
    b'\xef\xbb\xbf[{"text": "a"}, {"text": "b"}]\n',
    b'\n[\n  {"text": "a"},\n  {"text": "b"}\n]\n',
    b'[{"text": "a"}]\n[{"text": "b"}]',
    b'[{"text": "a"}][]{"text":\n"b"}',
    b'{"text":\n "a"}\n{\n"text": "b"}',
]


@pytest.mark.parametrize("content", ARRAYS)
def test_a_file_that_is_an_array_or_objects_over_several_lines(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert read_all(jsonl(tmp_path)) == [Document("here", "a.json", 0, "a"), Document("here", "a.json", 1, "b")]


@pytest.mark.parametrize("first", [b'{"text": "cut', b'{"text":', b'{"text": "cut",', b'{"text": "cut"', b'{"t', b"{"])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_lines_of_which_the_first_is_cut(tmp_path: Path, first: bytes, count: int) -> None:
    (tmp_path / "a.json").write_bytes(first + b"\n" + b'{"text": "b"}\n' * count)
    found = read_all(jsonl(tmp_path))
    assert texts(found) == ["b"] * count
    assert flaws(found) == [(0, "broken_json")]


@given(st.lists(st.fixed_dictionaries({"text": st.text(), "more": VALUES}), min_size=1), st.sampled_from([0, 1, 4]))
def test_objects_over_several_lines_are_not_taken_for_lines(records: list[dict[str, object]], indent: int) -> None:
    content = b"\n".join(json.dumps(record, indent=indent).encode() for record in records)
    assert _is_one_value("a.json", content)
    lines = b"\n".join(json.dumps(record).encode() for record in records)
    assert not _is_one_value("a.json", lines)


@pytest.mark.parametrize(
    ("content", "reasons"),
    [
        (b'[{"text": "a"}, {"text": "b"}', ["broken_json"]),
        (b'[{"text": "a"}, {"text": "b"', ["broken_json"]),
        (b'[{"text": "a"}, {"text": }, {"text": "b"}]', ["broken_json"]),
        (b'[{"text": "a"} {"text": "b"}]', ["broken_json"]),
        (b'[{"text": "a"}] rest', ["broken_json"]),
        (b'[{"text": "a"}, {"text": "\xff"}, 3]', ["bad_encoding", "no_text"]),
        (b'[{"text": "a"}, {"text": "\xe2', ["broken_json"]),
    ],
)
def test_a_broken_array_is_read_up_to_where_it_breaks(tmp_path: Path, content: bytes, reasons: list[str]) -> None:
    (tmp_path / "a.json").write_bytes(content)
    found = read_all(jsonl(tmp_path))
    assert texts(found)[0] == "a"
    assert [reason for _, reason in flaws(found)] == reasons


def test_a_cut_array_is_read_up_to_the_cut(tmp_path: Path) -> None:
    content = json.dumps([{"text": f"document {number}"} for number in range(3)]).encode()
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(content)[:-8])
    found = read_all(jsonl(tmp_path))
    assert texts(found)[:2] == ["document 0", "document 1"]
    assert flaws(found)[-1][1] == "cut_short"


def test_the_first_flaw_of_a_stream_is_not_lost_in_looking_at_its_start(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(b"[1, 2]")
    assert flaws(read_all(jsonl(tmp_path))) == [(0, "damaged_archive")]


@given(
    values=st.lists(VALUES, max_size=5),
    indent=st.sampled_from([None, 0, 3]),
    read_bytes=st.integers(1, 40),
)
def test_arrays_are_read_alike_whatever_is_read_at_a_time(values: list[object], indent: int, read_bytes: int) -> None:
    content = json.dumps(values, indent=indent).encode()
    original = json_values._READ_BYTES
    json_values._READ_BYTES = read_bytes
    try:
        found = list(read_values(io.BufferedReader(io.BytesIO(content))))
    finally:
        json_values._READ_BYTES = original
    assert repr(found) == repr(json.loads(content))


def test_values_too_long_to_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "MAX_RECORD_BYTES", MIB)
    stream = io.BufferedReader(io.BytesIO(b'[1, "' + b"x" * (4 * MIB) + b'"]'))
    first, second = read_values(stream)
    assert first == 1
    assert isinstance(second, Flaw)
    assert second.reason == "too_long"


def test_arrays_are_parsed_in_linear_time() -> None:
    """Each value is parsed from where it begins: 200,000 of them take seconds, not hours."""
    stream = io.BufferedReader(io.BytesIO(json.dumps([{"text": "a"}] * 200_000).encode()))
    assert sum(1 for _ in read_values(stream)) == 200_000
