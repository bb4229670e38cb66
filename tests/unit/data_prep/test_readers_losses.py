"""How much is lost with a bad stretch is told: in records where they are known, else in bytes of content."""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from data_prep.documents.document import BrokenRecord
from pipeline.config.prep.readers import Reader
from pipeline.errors import CorpusError
from tests.unit.data_prep.read_records import make_reader, open_all, texts

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def lines(count: int, width: int = 400) -> bytes:
    """Lines of 427 bytes that hardly compress."""
    random = Random(count).randbytes(count * width // 2).hex()
    return b"".join(
        b'{"n": "%05d", "text": "%s"}\n' % (number, random[number * width :][:width].encode())
        for number in range(count)
    )


def read(reader: Reader) -> tuple[int, list[BrokenRecord], int]:
    """How many documents, the broken records, and how many bytes there were."""
    (reading,) = open_all(reader)
    found = list(reading)
    return len(texts(found)), [one for one in found if isinstance(one, BrokenRecord)], reading.bytes


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_what_is_whole_has_its_length_and_loses_nothing(tmp_path: Path, name: str) -> None:
    content = lines(100)
    (tmp_path / name).write_bytes(COMPRESS.get(Path(name).suffix, bytes)(content))
    assert read(make_reader("jsonl", tmp_path)) == (100, [], len(content))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_what_is_behind_a_cut_is_taken_to_be_as_much_as_there_is(tmp_path: Path, suffix: str) -> None:
    stored = COMPRESS[suffix](lines(6000))
    (tmp_path / f"a.jsonl{suffix}").write_bytes(stored[: len(stored) * 2 // 3])
    documents, (broken,), whole = read(make_reader("jsonl", tmp_path))
    assert 2000 < documents < 4200
    assert documents * 427 <= broken.lost_bytes < (documents + 1) * 427
    assert whole == 2 * broken.lost_bytes
    assert broken.records == 1


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_damaged_stretch_is_about_as_long_as_it_was(tmp_path: Path, suffix: str) -> None:
    frames = [bytearray(COMPRESS[suffix](lines(1000))) for _ in range(4)]
    middle = len(frames[1]) // 2
    frames[1][middle : middle + 4000] = b"\xff" * 4000
    (tmp_path / f"a.jsonl{suffix}").write_bytes(b"".join(frames))
    documents, found, whole = read(make_reader("jsonl", tmp_path))
    (broken,) = (one for one in found if one.reason == "damaged_archive")
    assert documents >= 3000
    unread = 4000 * 427 - documents * 427
    assert 0 < broken.lost_bytes < 1.1 * unread
    if suffix in (".bz2", ".xz"):  # others decode nonsense before they notice: broken lines
        assert broken.lost_bytes > 0.9 * unread
    assert whole == pytest.approx(4000 * 427, rel=0.2)
    assert "bytes of the file from" in broken.detail


def test_what_cannot_be_decompressed_at_all_is_lost_whole(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"no gzip " * 1000)
    _, (broken,), whole = read(make_reader("jsonl", tmp_path))
    assert broken.lost_bytes == whole == pytest.approx(4 * 8000, rel=0.01)


def test_rows_of_a_damaged_row_group_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {number}" for number in range(3000)]}), path, row_group_size=1000)
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
    documents, (broken,), whole = read(make_reader("parquet", tmp_path))
    assert (documents, broken.records, broken.lost_bytes) == (2000, 1000, 0)
    path.write_bytes(content[:-1])
    assert read(make_reader("parquet", tmp_path))[1][0].lost_bytes == len(content) - 1 == whole - 1


@pytest.mark.parametrize("compressed", [False, True])
def test_the_rest_of_a_broken_array_is_measured(tmp_path: Path, compressed: bool) -> None:
    good = json.dumps([{"text": "é" * 50}] * 400, ensure_ascii=False).encode()[:-1]
    rest = b', {"text": }, ' + good[1:] + b"]"
    content = good + rest
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(content)) if compressed else (tmp_path / "a.json").write_bytes(
        content
    )
    documents, (broken,), whole = read(make_reader("jsonl", tmp_path))
    assert (documents, broken.reason, broken.lost_bytes, whole) == (400, "broken_json", len(rest) - 2, len(content))


def test_the_rest_of_an_array_with_damage_in_it_is_measured(tmp_path: Path) -> None:
    content = json.dumps([{"text": line.decode()} for line in lines(2000).splitlines()]).encode()
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(content)[:-1000])
    documents, (broken,), whole = read(make_reader("jsonl", tmp_path))
    assert broken.reason == "cut_short"
    assert len(content) * 0.9 < broken.lost_bytes < len(content) * 1.01
    assert whole == pytest.approx(2 * len(content), rel=0.05)
    assert documents > 1900


def test_rows_that_a_quote_swallows_are_measured(tmp_path: Path) -> None:
    rest = b'5,"never closed\n' + b"6,c\n" * 100
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,a\n2,"x"y\n' + rest)
    documents, (quote, swallowed), whole = read(make_reader("csv", tmp_path))
    assert (documents, quote.lost_bytes) == (1, 7)
    assert (swallowed.reason, swallowed.lost_bytes, whole) == ("bad_csv", len(rest), 19 + len(rest))
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,"a\n2,b\n3,c\n4,d",e,f\n5,"a\nb"\n')
    documents, (swallowed,), _ = read(make_reader("csv", tmp_path))
    assert (documents, swallowed.reason, swallowed.lost_bytes) == (
        1,
        "wrong_columns",
        len(b'1,"a\n2,b\n3,c\n4,d",e,f\n'),
    )


def test_a_table_without_its_header_is_lost_whole(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'id,te"xt\n'.replace(b"te", b'"te"') + b"1,a\n" * 100)
    _, (broken,), whole = read(make_reader("csv", tmp_path))
    assert broken.lost_bytes == whole == 411


@pytest.mark.parametrize("content", ["id,text\r" + "1,a\r" * 100, "id,text\n" + "1,a\r" * 100])
def test_a_table_whose_lines_end_with_carriage_returns_alone_is_lost_whole(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content, newline="")
    documents, (broken,), whole = read(make_reader("csv", tmp_path))
    assert (documents, broken.reason, whole) == (0, "bad_csv", 408)
    assert broken.lost_bytes >= 400


def test_a_table_whose_only_line_is_too_long_is_lost_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.readers.lines.MAX_RECORD_BYTES", 300)
    (tmp_path / "a.csv").write_text("id,text\r" + "1,a\r" * 100, newline="")
    _, (broken,), whole = read(make_reader("csv", tmp_path))
    assert (broken.reason, broken.lost_bytes, whole) == ("too_long", 408, 408)


def test_what_lies_between_records_of_an_archive_is_measured(tmp_path: Path) -> None:
    page = b"The plain text."
    record = (
        b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: 15\r\n\r\n"
        + page
        + b"\r\n\r\n"
    )
    (tmp_path / "a.warc").write_bytes(record + b"\0" * 200_000 + b"\n" + record)
    documents, (broken,), whole = read(make_reader("warc", tmp_path))
    assert (documents, broken.reason, broken.lost_bytes) == (2, "bad_record", 200_001)
    (tmp_path / "a.warc").write_bytes(record * 9 + record[:-8])
    documents, (broken,), whole = read(make_reader("warc", tmp_path))
    assert (documents, broken.reason, broken.lost_bytes) == (9, "cut_short", whole)


def tar(count: int) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for number in range(count):
                header = tarfile.TarInfo(f"{number}.txt")
                header.size = 4
                archive.addfile(header, io.BytesIO(b"text"))
        return file.getvalue()


def test_members_behind_a_damaged_header_are_measured(tmp_path: Path) -> None:
    content = bytearray(tar(10))
    content[2048:5120] = b"\xff" * 3072  # three members
    (tmp_path / "a.tar").write_bytes(content)
    documents, (broken,), whole = read(make_reader("webdataset", tmp_path))
    assert (documents, broken.reason, broken.lost_bytes, whole) == (7, "damaged_archive", 3072, len(content))
    (tmp_path / "a.tar").write_bytes(tar(10)[:6144])
    documents, (broken,), whole = read(make_reader("webdataset", tmp_path))
    assert (documents, broken.reason, broken.lost_bytes, whole) == (6, "cut_short", 6144, 6144)


def test_a_text_is_one_record_however_it_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(lines(10))[:-9])
    _, (broken,), _ = read(make_reader("text", tmp_path))
    assert (broken.reason, broken.records, broken.lost_bytes) == ("cut_short", 1, 0)


@pytest.mark.parametrize(
    ("type_", "name"),
    [("parquet", "a.parquet"), ("jsonl", "a.jsonl"), ("jsonl", "a.json.bz2"), ("csv", "a.csv.xz"), ("text", "a.txt"),
     ("text", "a.txt.gz"), ("warc", "a.warc.zst"), ("webdataset", "a.tar")],
)  # fmt: skip
def test_a_disk_that_fails_is_no_damage(tmp_path: Path, type_: str, name: str) -> None:
    (tmp_path / name).symlink_to("/proc/self/mem")  # a file that says EIO when it is read
    with pytest.raises(CorpusError, match=rf"input .*{name} cannot be read: (Input/output error|Invalid arg.*); mend"):
        read(make_reader(type_, tmp_path))


def test_a_disk_that_fails_within_a_row_group_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"text": lines(2000).decode().split("\n")})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=500, compression="none", use_dictionary=False)
    records = iter(open_all(make_reader("parquet", tmp_path))[0])
    next(records)
    fds = [Path("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")]
    (open_file,) = (fd for fd in fds if fd.exists() and fd.samefile(tmp_path / "a.parquet"))
    with open("/proc/self/mem", "rb") as failing:  # from now on every read says EIO
        os.dup2(failing.fileno(), int(open_file.name))
    with pytest.raises(CorpusError, match=r"a\.parquet cannot be read: Input/output error"):
        list(records)
