"""Tarballs of samples, whole and damaged."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.documents.document import Document
from data_prep.readers.flaw import Flaw
from data_prep.readers.tar import Member, read_members
from tests.unit.data_prep.read_records import flaws, make_reader, open_all, read_all, texts

BLOCK = tarfile.BLOCKSIZE


def tar(members: dict[str, bytes], format_: int = tarfile.PAX_FORMAT) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w", format=format_) as archive:
            for name, content in members.items():
                header = tarfile.TarInfo(name)
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
        return file.getvalue()


def samples(count: int) -> dict[str, bytes]:
    members = {}
    for number in range(count):
        members[f"s/{number:04d}.cls"] = b"1"
        members[f"s/{number:04d}.txt"] = f"text {number}".encode()
    return members


def members_of(content: bytes) -> list[Member | Flaw]:
    return list(read_members(io.BufferedReader(io.BytesIO(content)), lambda name: True))


def test_samples(tmp_path: Path) -> None:
    members = {
        "a.jpg": b"x",
        "a.txt": b"one",
        "b.txt": b"\xff",
        "b.json": b"{}",
        "c.json": b"{}",
        "readme": b"",
    }
    (tmp_path / "a.tar").write_bytes(tar(members))
    (reading,) = open_all(make_reader("webdataset", tmp_path))
    found = list(reading)
    assert [record for record in found if isinstance(record, Document)] == [
        Document("here", "a.tar", 0, "one"),
        Document("here", "a.tar", 1, "\ufffd"),
    ]
    assert flaws(found) == [(2, "no_text")]
    assert reading.skipped == {"no_sample": 1}


def test_text_in_a_json_member(tmp_path: Path) -> None:
    record = {"body": {"text": "one"}, "url": "http://x"}
    members = {"a.b/1.meta.json": json.dumps(record).encode(), "a.b/2.meta.json": b"{", "a.b/3.json": b"{}"}
    (tmp_path / "a.tgz").write_bytes(gzip.compress(tar(members)))
    settings = {"json_member": "meta.json", "text_field": "body.text", "metadata": {"url": "url"}}
    found = read_all(make_reader("webdataset", tmp_path, **settings))
    assert found[0] == Document("here", "a.tgz", 0, "one", {"url": "http://x"})
    assert flaws(found) == [(1, "broken_json"), (2, "no_text")]


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("name", ["é" * 90 + "/x.txt", "long/" * 60 + "x.txt", "x.txt"])
def test_names_of_any_length(name: str, format_: int) -> None:
    assert members_of(tar({name: b"content", "y.txt": b""}, format_)) == [
        Member(name, b"content"),
        Member("y.txt", b""),
    ]


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}\.txt", fullmatch=True), st.binary(max_size=2000)), st.booleans())
def test_any_archive_that_the_standard_library_writes(members: dict[str, bytes], twice: bool) -> None:
    expected = [Member(name, content) for name, content in members.items()]
    assert members_of(tar(members) * (1 + twice)) == expected * (1 + twice)


@pytest.mark.parametrize("type_", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_folders_are_no_files_and_links_are_counted(tmp_path: Path, type_: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", mode="w") as archive:
        for name, kind in (("s", tarfile.DIRTYPE), ("s/1.txt", tarfile.REGTYPE), ("s/2.txt", type_)):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, "s/1.txt" if kind == type_ else ""
            archive.addfile(header)
    assert members_of((tmp_path / "a.tar").read_bytes()) == [Member("s/1.txt", b""), Member("s/2.txt", None)]
    (reading,) = open_all(make_reader("webdataset", tmp_path))
    assert texts(list(reading)) == [""]
    assert reading.skipped == {"link": 1}


def test_an_archive_cut_anywhere_says_so() -> None:
    content = tar(samples(4), tarfile.USTAR_FORMAT)
    end = content.rstrip(b"\0").rfind(b"text 3") // BLOCK * BLOCK + BLOCK
    whole = members_of(content)
    for cut in range(1, end + 1, 100):
        found = members_of(content[:cut])
        assert [one.reason for one in found if isinstance(one, Flaw)] != [], cut
        assert found[:-1] == whole[: len(found) - 1]


def test_a_cut_at_the_border_of_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(samples(3), tarfile.USTAR_FORMAT)[: 8 * BLOCK])
    found = read_all(make_reader("webdataset", tmp_path))
    assert texts(found) == ["text 0", "text 1"]
    assert flaws(found) == [(2, "cut_short")]


def test_behind_a_damaged_header_reading_goes_on(tmp_path: Path) -> None:
    content = bytearray(tar(samples(5), tarfile.USTAR_FORMAT))
    content[4 * BLOCK + 3] ^= 1  # of the second sample's first file
    (tmp_path / "a.tar").write_bytes(content)
    found = read_all(make_reader("webdataset", tmp_path))
    assert texts(found) == ["text 0", "text 1", "text 2", "text 3", "text 4"]
    assert flaws(found) == [(1, "damaged_archive")]


def test_damaged_text_header(tmp_path: Path) -> None:
    content = bytearray(tar(samples(3), tarfile.USTAR_FORMAT))
    content[6 * BLOCK + 3] ^= 1  # of the second sample's text
    (tmp_path / "a.tar").write_bytes(content)
    found = read_all(make_reader("webdataset", tmp_path))
    assert texts(found) == ["text 0", "text 2"]
    assert flaws(found) == [(1, "no_text"), (2, "damaged_archive")]


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no archive " * 1000)
    (tmp_path / "b.tar").write_bytes(b"")
    assert flaws(read_all(make_reader("webdataset", tmp_path))) == [(0, "damaged_archive")]


def test_a_cut_compressed_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tar(samples(50)))[:-200])
    found = read_all(make_reader("webdataset", tmp_path))
    assert texts(found)[:20] == [f"text {number}" for number in range(20)]
    assert "cut_short" in [reason for _, reason in flaws(found)]


def test_a_file_that_is_too_long_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.readers.tar.MAX_RECORD_BYTES", 5000)
    members = {"a.txt": b"x" * 9999, "a.cls": b"", "b.bin": b"x" * 9999, "b.txt": b"b"}
    (tmp_path / "a.tar").write_bytes(tar(members))
    found = read_all(make_reader("webdataset", tmp_path))
    assert texts(found) == ["b"]
    assert flaws(found) == [(0, "too_long")]
