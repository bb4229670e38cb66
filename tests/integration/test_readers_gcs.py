"""Reading from Google Cloud Storage by its JSON API: an emulator on this machine, spoken to by the real client."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from data_prep.readers import find_files, hash_file, read_file, remote
from pipeline.config.prep.readers import JsonlReader, ParquetReader, Reader
from pipeline.config.prep.recipe import Source
from pipeline.errors import ConfigError, CorpusError
from tests.integration.storage import serving, without_proxies

SERVER = """
import sys
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="crawl")
server.start()
print(server._api._httpd.server_address[1], flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a server that ends with the tests."""
    with serving(SERVER) as address:
        yield address


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket `crawl`, found by what users set: environment variables."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # speaks gRPC, which the emulator does not
    monkeypatch.setattr(remote, "PAUSES_SECONDS", (0.01,))
    without_proxies(monkeypatch)
    system = fsspec.filesystem("gs", skip_instance_cache=True)
    for path in system.find("crawl"):
        system.rm(path)
    fsspec.get_filesystem_class("gs").clear_instance_cache()
    yield system
    fsspec.get_filesystem_class("gs").clear_instance_cache()


def read(reader: Reader) -> list[tuple[object, ...]]:
    """Origin, size, hash and documents of each input."""
    found: list[tuple[object, ...]] = []
    for file in find_files(reader):
        reading = read_file(Source(name="here", reader=reader), file)
        documents = list(reading)
        assert reading.content_hash == hash_file(file)
        found.append((file.origin, file.bytes, reading.content_hash, documents))
    return found


def readers(place: str) -> list[Reader]:
    return [
        JsonlReader(type="jsonl", paths=(f"{place}/part*.jsonl.zst",)),
        JsonlReader(type="jsonl", paths=(place,)),
        JsonlReader(type="jsonl", paths=(f"{place}/**/*.zst",)),
        JsonlReader(type="jsonl", paths=(f"{place}/sub/part2.jsonl.zst",)),
        ParquetReader(type="parquet", paths=(f"{place}/",)),
    ]


def test_documents_and_hashes_are_those_of_the_local_files(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "BLOCK_BYTES", 300_000)
    (tmp_path / "sub").mkdir()
    rows = [{"text": f"text {number} " * 40} for number in range(2000)]
    for name in ("part0", "part1", "sub/part2"):
        lines = "".join(json.dumps({**row, "part": name}) + "\n" for row in rows).encode()
        (tmp_path / f"{name}.jsonl.zst").write_bytes(zstandard.compress(lines))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=700, compression="none")
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        bucket.pipe(f"crawl/2024/{path.relative_to(tmp_path).as_posix()}", path.read_bytes())
    counts = []
    for here, there in zip(readers(str(tmp_path)), readers("gs://crawl/2024"), strict=True):
        remotely = read(there)
        assert remotely == read(here)
        counts.append(len(remotely))
    assert counts == [2, 3, 3, 1, 1]


def test_a_changed_object_has_another_version(bucket: Any) -> None:
    reader = JsonlReader(type="jsonl", paths=("gs://crawl",))
    bucket.pipe("crawl/a.jsonl", b'{"text": "one"}\n')
    (before,) = find_files(reader)
    assert find_files(reader) == [before]
    bucket.pipe("crawl/a.jsonl", b'{"text": "two"}\n')
    (after,) = find_files(reader)
    assert before.version != after.version
    assert (before.origin, before.bytes) == (after.origin, after.bytes) == ("a.jsonl", 16)


@pytest.mark.usefixtures("bucket")
def test_what_is_not_there() -> None:
    for path in ("gs://crawl/nothing/", "gs://crawl/*.jsonl", "gs://crawl/a.jsonl"):
        with pytest.raises((ConfigError, CorpusError), match="gs://"):
            find_files(JsonlReader(type="jsonl", paths=(path,)))


def test_an_object_that_is_gone_when_it_is_read(bucket: Any) -> None:
    bucket.pipe("crawl/a.jsonl", b'{"text": "one"}\n')
    reader = JsonlReader(type="jsonl", paths=("gs://crawl/a.jsonl",))
    (file,) = find_files(reader)
    bucket.rm("crawl/a.jsonl")
    fsspec.get_filesystem_class("gs").clear_instance_cache()
    with pytest.raises(CorpusError, match=r"input gs://crawl/a\.jsonl cannot be read"):
        list(read_file(Source(name="here", reader=reader), file))
