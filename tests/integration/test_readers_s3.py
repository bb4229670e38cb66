"""Reading from S3 over the real protocol: a server of our own on this machine, spoken to by the real client."""

import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from data_prep.documents.document import Document
from data_prep.readers import find_files, hash_file, read_file, remote
from pipeline.config.prep.readers import CsvReader, JsonlReader, ParquetReader, Reader, WarcReader
from pipeline.config.prep.recipe import Source
from pipeline.errors import ConfigError, CorpusError

PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>A page of some words, number %d.</p>"


def write_inputs(folder: Path) -> None:
    """Inputs of each kind, larger than one block read at a time."""
    rows = [{"text": f"text {number} " * 40, "meta": {"url": f"http://x/{number}"}} for number in range(5000)]
    for part in range(3):
        lines = "".join(json.dumps({**row, "part": part}) + "\n" for row in rows).encode()
        (folder / f"part{part}.jsonl.zst").write_bytes(zstandard.compress(lines))
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet", row_group_size=700, compression="none")
    with open(folder / "a.warc", "wb") as file:
        for number in range(2000):
            page = PAGE % number
            head = b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://x/%d\r\n" % number
            file.write(head + b"Content-Type: application/http\r\nContent-Length: %d\r\n\r\n" % len(page))
            file.write(page + b"\r\n\r\n")


def readers(place: str) -> list[Reader]:
    metadata = {"url": "meta.url"}
    return [
        JsonlReader(type="jsonl", paths=(f"{place}/part[01].jsonl.zst",), metadata=metadata),
        JsonlReader(type="jsonl", paths=(place,), metadata=metadata),
        ParquetReader(type="parquet", paths=(f"{place}/*.parquet",), metadata=metadata),
        WarcReader(type="warc", paths=(f"{place}/*.warc",)),
        WarcReader(type="warc", paths=(f"{place}/a.warc",)),
    ]


def read(reader: Reader) -> list[tuple[str, int, str | None, list[Document]]]:
    """Origin, size, hash and documents of each input."""
    found = []
    for file in find_files(reader):
        reading = read_file(Source(name="here", reader=reader), file)
        documents = [record for record in reading if isinstance(record, Document)]
        assert reading.content_hash == hash_file(file)
        found.append((file.origin, file.bytes, reading.content_hash, documents))
    return found


def test_documents_and_hashes_are_those_of_the_local_files(
    bucket: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "BLOCK_BYTES", 200_000)
    write_inputs(tmp_path)
    bucket.put(f"{tmp_path}/", "crawl/2024/", recursive=True)
    counts = []
    for here, there in zip(readers(str(tmp_path)), readers("s3://crawl/2024"), strict=True):
        remotely = read(there)
        assert remotely == read(here)
        counts.append([len(documents) for *_, documents in remotely])
    assert counts == [[5000] * 2, [5000] * 3, [5000], [2000], [2000]]


def test_a_changed_object_has_another_version(bucket: fsspec.AbstractFileSystem) -> None:
    reader = CsvReader(type="csv", paths=("s3://crawl/",))
    bucket.pipe("crawl/a.csv", b"text\none\n")
    (before,) = find_files(reader)
    assert find_files(reader) == [before]
    bucket.pipe("crawl/a.csv", b"text\ntwo\n")
    (after,) = find_files(reader)
    assert before.version != after.version
    assert (before.origin, before.bytes) == (after.origin, after.bytes) == ("a.csv", 9)


@pytest.mark.usefixtures("bucket")
def test_what_is_not_there() -> None:
    for path in ("s3://crawl/nothing/", "s3://crawl/*.jsonl", "s3://no-such-bucket/a.jsonl"):
        with pytest.raises((ConfigError, CorpusError), match="s3://"):
            find_files(JsonlReader(type="jsonl", paths=(path,)))


def test_an_object_that_is_gone_when_it_is_read(bucket: fsspec.AbstractFileSystem) -> None:
    bucket.pipe("crawl/a.jsonl", b'{"text": "one"}\n')
    reader = JsonlReader(type="jsonl", paths=("s3://crawl/a.jsonl",))
    (file,) = find_files(reader)
    bucket.rm("crawl/a.jsonl")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(CorpusError, match=r"input s3://crawl/a\.jsonl cannot be read"):
        list(read_file(Source(name="here", reader=reader), file))
