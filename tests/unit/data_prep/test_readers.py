import gzip
import os
import sysconfig
from pathlib import Path

import pytest
import zstandard

from data_prep.document import BrokenRecord, Document
from data_prep.readers import find_files, read_file
from pipeline.config.prep import JsonlReader, Reader, Source, StdlibReader, TextReader
from pipeline.errors import ConfigError, CorpusError

LINES = b'{"text": "one"}\n\n{"text": 2}\nnot json\n["text"]\n{"text": "caf\xc3\xa9 \xff", "more": null}'


def read_all(reader: Reader) -> list[Document | BrokenRecord]:
    source = Source(name="here", reader=reader)
    return [record for file in find_files(reader) for record in read_file(source, file)]


def compressed(name: str, content: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(content[:20]) + gzip.compress(content[20:])
    if name.endswith(".zst"):
        return zstandard.compress(content[:20]) + zstandard.compress(content[20:])
    return content


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json.gz"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(compressed(name, LINES))
    assert read_all(JsonlReader(type="jsonl", paths=(str(tmp_path),))) == [
        Document("here", name, 0, "one"),
        BrokenRecord("no_text"),
        BrokenRecord("broken_record"),
        BrokenRecord("no_text"),
        Document("here", name, 5, "caf\u00e9 \ufffd"),
    ]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_stream_cut_short_is_an_error_not_an_end(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(compressed(name, LINES * 50)[:-6])
    with pytest.raises(CorpusError, match=f"input .*{name} is damaged or cut short"):
        read_all(JsonlReader(type="jsonl", paths=(str(tmp_path),)))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_what_is_not_compressed_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(LINES)
    with pytest.raises(CorpusError, match="damaged"):
        read_all(JsonlReader(type="jsonl", paths=(str(tmp_path),)))


def test_an_empty_compressed_file_has_no_documents(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(b"")
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.compress(b""))
    assert read_all(JsonlReader(type="jsonl", paths=(str(tmp_path),))) == []


def test_deep_json_is_a_broken_record(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("[" * 200_000)
    assert read_all(JsonlReader(type="jsonl", paths=(str(tmp_path),))) == [BrokenRecord("broken_record")]


def test_text_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_bytes(b"\xef\xbb\xbfwith a mark")
    (tmp_path / "a.txt").write_bytes(b"broken \xff byte")
    (tmp_path / "c.md").write_text("not asked for")
    assert read_all(TextReader(type="text", paths=(str(tmp_path),))) == [
        Document("here", "a.txt", 0, "broken \ufffd byte"),
        Document("here", "sub/b.txt", 0, "with a mark"),
    ]


def test_files_folders_and_globs_give_each_file_once_with_distinct_origins(tmp_path: Path) -> None:
    for name in ("one/x.txt", "two/x.txt", "two/y.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    paths = (
        str(tmp_path / "one"),
        str(tmp_path / "one" / "x.txt"),
        str(tmp_path / "*" / "y.md"),
        str(tmp_path / "two"),
    )
    origins = [file.origin for file in find_files(TextReader(type="text", paths=paths))]
    assert origins == ["one/x.txt", "two/x.txt", "two/y.md"]


def test_another_file_in_a_folder_changes_no_origin(tmp_path: Path) -> None:
    reader = TextReader(type="text", paths=(str(tmp_path),))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("a")
    assert [file.origin for file in find_files(reader)] == ["sub/a.txt"]
    (tmp_path / "b.txt").write_text("b")
    assert [file.origin for file in find_files(reader)] == ["b.txt", "sub/a.txt"]


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("coffee")
    assert read_all(TextReader(type="text", paths=(str(tmp_path),))) == [Document("here", "caf\\xe9.txt", 0, "coffee")]


@pytest.mark.parametrize("path", ["nowhere", "empty", "*.nothing"])
def test_a_path_without_files_is_named(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"paths: '.*' matches no file \(\*\.txt\)"):
        find_files(TextReader(type="text", paths=(str(tmp_path / path),)))


def test_the_standard_library() -> None:
    files = find_files(StdlibReader(type="stdlib"))
    origins = [file.origin for file in files]
    assert {"ast.py", "json/decoder.py"} <= set(origins)
    assert origins == sorted(origins)
    assert not any({"site-packages", "dist-packages", "__pycache__"} & set(origin.split("/")) for origin in origins)
    assert not any(origin.startswith(("/", "..")) for origin in origins)
    ast_file = files[origins.index("ast.py")]
    source = Source(name="stdlib", reader=StdlibReader(type="stdlib"))
    expected = Path(sysconfig.get_paths()["stdlib"], "ast.py").read_text(encoding="utf-8")
    assert list(read_file(source, ast_file)) == [Document("stdlib", "ast.py", 0, expected)]


def test_suffixes_that_no_file_has() -> None:
    with pytest.raises(ConfigError, match=r"suffixes \(\.nothing\)"):
        find_files(StdlibReader(type="stdlib", suffixes=(".nothing",)))
