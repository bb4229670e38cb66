"""Finding inputs, and plain text."""

import glob
import os
import sysconfig
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.documents.document import BrokenRecord, Document
from data_prep.readers import find_files, hash_file, read_file
from data_prep.readers.local import expand
from pipeline.config.prep.readers import Reader, StdlibReader
from pipeline.config.prep.recipe import Source
from pipeline.errors import ConfigError, CorpusError
from tests.unit.data_prep.read_records import MIB, flaws, make_reader, open_all, read_all, texts


def text_reader(*paths: Path | str, **settings: str) -> Reader:
    return make_reader("text", *paths, **settings)


def origins(reader: Reader) -> list[str]:
    return [file.origin for file in find_files(reader)]


def test_text_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_bytes(b"\xef\xbb\xbfwith a mark")
    (tmp_path / "a.txt").write_bytes(b"broken \xff byte")
    (tmp_path / "c.md").write_text("not asked for")
    assert read_all(text_reader(tmp_path)) == [
        Document("here", "a.txt", 0, "broken \ufffd byte"),
        Document("here", "sub/b.txt", 0, "with a mark"),
    ]


def test_paragraphs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\n\none\ntwo\r\n\r\n \t\n\nthree\n\nlast")
    assert read_all(text_reader(tmp_path, document="paragraph")) == [
        Document("here", "a.txt", position, text) for position, text in enumerate(["one\ntwo", "three", "last"])
    ]


@pytest.fixture
def small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lines", "text"):
        monkeypatch.setattr(f"data_prep.readers.{module}.MAX_RECORD_BYTES", MIB)


@pytest.mark.usefixtures("small_bound")
def test_a_paragraph_that_is_too_long_is_passed_over(tmp_path: Path) -> None:
    line = b"x" * 99 + b"\n"
    (tmp_path / "a.txt").write_bytes(b"first\n\n" + line * (3 * MIB // 100) + b"\nlast\n\n" + b"y" * (3 * MIB))
    found = read_all(text_reader(tmp_path, document="paragraph"))
    assert texts(found) == ["first", "last"]
    assert flaws(found) == [(1, "too_long"), (3, "too_long")]


@pytest.mark.usefixtures("small_bound")
def test_a_file_that_is_too_long_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * (MIB + 1))
    (tmp_path / "b.txt").write_bytes(b"x" * MIB)
    broken, document = read_all(text_reader(tmp_path))
    assert isinstance(broken, BrokenRecord)
    assert broken.reason == "too_long"
    assert "document: paragraph" in broken.detail
    assert isinstance(document, Document)


def write_files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_files_folders_and_globs_give_each_file_once(tmp_path: Path) -> None:
    write_files(tmp_path, "one/x.txt", "two/z.txt", "two/y.md")
    reader = text_reader(tmp_path / "one", tmp_path / "one" / "x.txt", tmp_path / "*" / "y.md", tmp_path / "two")
    assert origins(reader) == ["two/y.md", "x.txt", "z.txt"]
    assert all(Path(file.path).is_file() for file in find_files(reader))


def test_another_entry_changes_no_origin(tmp_path: Path) -> None:
    write_files(tmp_path, "a/one/x.txt", "a/two/y.txt", "b/z.txt")
    entries = [tmp_path / "a" / "t*" / "*.txt", tmp_path / "a" / "one", tmp_path / "b" / "z.txt"]
    alone = [find_files(text_reader(entry)) for entry in entries]
    together = find_files(text_reader(*entries))
    assert together == [file for files in alone for file in files]
    assert find_files(text_reader(*reversed(entries))) == together


def test_two_files_of_one_origin_are_told_with_a_cure_that_works(tmp_path: Path) -> None:
    write_files(tmp_path, "2023/x.txt", "2024/x.txt")
    with pytest.raises(ConfigError, match=r"2023/x\.txt and .*2024/x\.txt would both be called x\.txt") as caught:
        find_files(text_reader(tmp_path / "2023", tmp_path / "2024"))
    assert f"write /./ where names are to begin, such as {tmp_path}/./2023" in str(caught.value)
    marked = [f"{tmp_path}/./2023", f"{tmp_path}/./2024/*.txt"]
    assert origins(text_reader(*marked)) == ["2023/x.txt", "2024/x.txt"]
    assert origins(text_reader(f"/.{tmp_path}/2023")) == [f"{tmp_path}/2023/x.txt"[1:]]


def test_linked_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    write_files(tmp_path, "in/x.txt", "out/y.txt", "out/deep/z.txt")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "out" / "back").symlink_to(tmp_path / "in")
    expected = ["linked/deep/z.txt", "linked/y.txt", "x.txt"]
    for path in (tmp_path / "in", tmp_path / "in" / "**" / "*.txt", tmp_path / "in" / "**"):
        assert origins(text_reader(path)) == expected


NAMES = st.sampled_from(["a", "b", ".c", "d.txt", ".e.txt", "f.txt"])
PARTS = st.sampled_from(["a", "*", "**", "?", "[ab]", "*.txt", ".*", "d.txt"])


@given(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=6), st.lists(PARTS, min_size=1, max_size=4))
def test_globs_are_those_of_python(
    tmp_path_factory: pytest.TempPathFactory, paths: list[list[str]], parts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("glob")
    for path in paths:
        with suppress(OSError):
            write_files(folder, "/".join(path))
    pattern = "/".join([str(folder), *parts])
    expected = {path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)}
    if any(sign in pattern for sign in "*?["):
        assert {path for path, *_ in expand(pattern, ())[1]} == expected


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, "a/x.txt", "b/y.txt")
    listed = os.scandir

    def scandir(folder: str) -> object:
        if folder.endswith("b"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr("data_prep.readers.local.os.scandir", scandir)
    for path in (tmp_path, tmp_path / "*" / "*.txt", tmp_path / "**"):
        with pytest.raises(CorpusError, match=r"input folder .*/b cannot be listed: Permission denied"):
            find_files(text_reader(path))


def test_globs_reach_into_folders(tmp_path: Path) -> None:
    for name in ("a/b/x.txt", "a/c/d/x.txt", "a/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert origins(text_reader(tmp_path / "a" / "**" / "*.txt")) == ["b/x.txt", "c/d/x.txt", "x.txt"]
    assert origins(text_reader(tmp_path / "a" / "[bc]" / "x.txt")) == ["b/x.txt"]


def test_another_file_in_a_folder_changes_no_origin(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("a")
    assert origins(text_reader(tmp_path)) == ["sub/a.txt"]
    (tmp_path / "b.txt").write_text("b")
    assert origins(text_reader(tmp_path)) == ["b.txt", "sub/a.txt"]


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("coffee")
    assert read_all(text_reader(tmp_path)) == [Document("here", "caf\\xe9.txt", 0, "coffee")]


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").symlink_to(tmp_path / "a.txt")
    (tmp_path / "c.md").symlink_to(tmp_path / "nowhere")
    assert origins(text_reader(tmp_path)) == origins(text_reader(tmp_path / "*.txt")) == ["a.txt", "b.txt"]
    for path in (tmp_path / "*", tmp_path / "c.md"):
        with pytest.raises(CorpusError, match=r"input .*c\.md is a link that leads nowhere"):
            find_files(text_reader(path))
    (tmp_path / "d.txt").symlink_to("d.txt")
    for path in (tmp_path, tmp_path / "d.txt"):
        with pytest.raises(CorpusError, match=r"input .*d\.txt is a link that leads nowhere"):
            find_files(text_reader(path))


def test_size_and_version_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(b"12345")
    os.utime(path, ns=(7, 1234567890123456789))
    for reader in (text_reader(tmp_path), text_reader(path), text_reader(tmp_path / "*.gz")):
        (file,) = find_files(reader)
        assert (file.path, file.bytes, file.text_bytes) == (str(path), 5, 20)
        assert file.version == "1234567890123456789"


@pytest.mark.parametrize("path", ["nowhere", "empty", "*.nothing"])
def test_a_path_without_files_is_named(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"paths: '.*' matches no file \(\*\.txt\)"):
        find_files(text_reader(tmp_path / path))


def test_one_path_of_several_without_files_is_named_though_others_have_some(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ConfigError, match="nowhere"):
        find_files(text_reader(tmp_path, tmp_path / "nowhere"))


def test_a_file_that_goes_away_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (reading,) = open_all(text_reader(tmp_path))
    (tmp_path / "a.txt").unlink()
    with pytest.raises(CorpusError, match=r"input .*a\.txt cannot be read: No such file"):
        list(reading)
    with pytest.raises(CorpusError, match="cannot be read"):
        hash_file(reading.file)


@pytest.mark.parametrize("content", [b"shorter", b"longer than before"])
def test_a_file_that_changes_before_it_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(b"the content")
    (reading,) = open_all(text_reader(tmp_path))
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(CorpusError, match=rf"a\.txt changed: 11 bytes were planned, {len(content)} read"):
        list(reading)
    assert reading.content_hash is None


def test_the_hash_is_that_of_the_stored_bytes_and_there_only_once_all_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(os.urandom(3 * MIB) + b"\n\none\n\ntwo")
    (reading,) = open_all(text_reader(tmp_path, document="paragraph"))
    records = iter(reading)
    next(records)
    assert reading.content_hash is None
    list(records)
    assert reading.content_hash == hash_file(reading.file)
    assert len(reading.content_hash) == 32


def test_the_standard_library() -> None:
    reader = StdlibReader(type="stdlib")
    files = find_files(reader)
    names = [file.origin for file in files]
    assert {"ast.py", "json/decoder.py"} <= set(names)
    assert names == sorted(names)
    assert not any({"site-packages", "dist-packages", "__pycache__"} & set(name.split("/")) for name in names)
    assert not any(name.startswith(("/", "..")) for name in names)
    ast_file = files[names.index("ast.py")]
    expected = Path(sysconfig.get_paths()["stdlib"], "ast.py").read_text(encoding="utf-8")
    reading = read_file(Source(name="stdlib", reader=reader), ast_file)
    assert list(reading) == [Document("stdlib", "ast.py", 0, expected)]


def test_suffixes_that_no_file_has() -> None:
    with pytest.raises(ConfigError, match=r"suffixes \(\.nothing\)"):
        find_files(StdlibReader(type="stdlib", suffixes=(".nothing",)))
