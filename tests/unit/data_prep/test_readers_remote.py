"""Inputs at URLs: in memory, and over a real HTTP server that fails as told. S3 has an integration test."""

import gzip
import json
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.documents.document import Document
from data_prep.readers import find_files, hash_file, remote
from data_prep.readers.remote import RemoteFile, persistently
from data_prep.tasks.task import identity
from pipeline.errors import ConfigError, CorpusError, MissingDependencyError
from tests.unit.data_prep.read_records import make_reader, open_all, read_all, texts


def records(*numbers: int) -> bytes:
    return b"".join(json.dumps({"text": f"text {number}"}).encode() + b"\n" for number in numbers)


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pipe("/data/a.jsonl", records(1, 2))
    system.pipe("/data/sub/b.jsonl.gz", gzip.compress(records(3)))
    system.pipe("/data/sub/c.txt", b"not asked for")
    yield system
    system.store.clear()


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("path", "origins"),
    [
        ("memory://data", ["a.jsonl", "sub/b.jsonl.gz"]),
        ("memory://data/", ["a.jsonl", "sub/b.jsonl.gz"]),
        ("memory://data/a.jsonl", ["a.jsonl"]),
        ("memory://data/*.jsonl", ["a.jsonl"]),
        ("memory://data/**/*.jsonl*", ["a.jsonl", "sub/b.jsonl.gz"]),
        ("memory://data/s*/*.gz", ["sub/b.jsonl.gz"]),
    ],
)
def test_files_folders_and_globs(path: str, origins: list[str]) -> None:
    files = find_files(make_reader("jsonl", path))
    assert [file.origin for file in files] == origins
    assert all(file.bytes and file.version for file in files)


def test_documents_and_hashes_are_those_of_the_local_files(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    for name in ("a.jsonl", "sub/b.jsonl.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(memory.cat(f"/data/{name}"))
    here, there = (open_all(make_reader("jsonl", path)) for path in (tmp_path, "memory://data"))
    assert [list(one) for one in here] == [list(one) for one in there]
    assert [one.content_hash for one in here] == [one.content_hash for one in there]
    assert [hash_file(one.file) for one in here] == [one.content_hash for one in there]


@pytest.mark.usefixtures("memory")
def test_local_paths_and_urls_together(tmp_path: Path) -> None:
    (tmp_path / "z.jsonl").write_bytes(records(9))
    found = read_all(make_reader("jsonl", tmp_path, "memory://data", f"file://{tmp_path}/z.jsonl"))
    assert sorted(texts(found)) == ["text 1", "text 2", "text 3", "text 9"]
    assert len({record.origin for record in found}) == 3


def test_a_mark_says_where_origins_begin(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/more/a.jsonl", records(4))
    with pytest.raises(ConfigError, match=r"would both be called a\.jsonl in the corpus"):
        find_files(make_reader("jsonl", "memory://data", "memory://more"))
    reader = make_reader("jsonl", "memory://data/./sub", "memory://more")
    assert [file.origin for file in find_files(reader)] == ["a.jsonl", "sub/b.jsonl.gz"]


@pytest.mark.parametrize("path", ["memory://nowhere", "memory://nowhere/*.jsonl", "memory://nowhere/a.jsonl"])
def test_a_url_without_files_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match=r"paths: 'memory://nowhere.*' matches no file"):
        find_files(make_reader("jsonl", path))


def test_unknown_protocols_and_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="'made-up://x' cannot be opened"):
        find_files(make_reader("jsonl", "made-up://x"))
    monkeypatch.setattr(remote.importlib.util, "find_spec", lambda name: None)
    for protocol, extra in (("s3", "s3"), ("gs", "gcs"), ("https", "http")):
        with pytest.raises(MissingDependencyError, match=rf"pip install 'tarmac\[{extra}\]'"):
            find_files(make_reader("jsonl", f"{protocol}://bucket/a"))


class Server(ThreadingHTTPServer):
    """Serves bytes by path; fails the next `failures` requests for content, and knows ranges if told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.failures = 0
        self.ranges = True
        self.breaks_after: int | None = None
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self._head(200, len(self.server.content.get(self.path, b"")))

    def do_GET(self) -> None:
        server, content = self.server, self.server.content.get(self.path)
        server.requests += 1
        if content is None or server.failures > 0:
            server.failures -= 1
            self.send_error(404 if content is None else 503)
            return
        asked = self.headers.get("Range")
        if asked and server.ranges:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            content = content[int(start) : int(end or len(content)) + 1]
            self._head(206, len(content), f"bytes {start}-{int(start) + len(content) - 1}/*")
        else:
            self._head(200, len(content))
        if server.breaks_after is not None:
            content, server.breaks_after = content[: server.breaks_after], None
        self.wfile.write(content)

    def _head(self, status: int, length: int, content_range: str = "") -> None:
        self.send_response(status if self.path in self.server.content else 404)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", '"version 1"')
        if content_range:
            self.send_header("Content-Range", content_range)
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "PAUSES_SECONDS", (0.01, 0.01, 0.01))
    monkeypatch.setattr(remote, "BLOCK_BYTES", 100_000)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_over_http(server: Server, ranges: bool) -> None:
    server.ranges = ranges
    server.content["/a.jsonl"] = records(*range(20_000))
    (reading,) = open_all(make_reader("jsonl", f"{server.url}/a.jsonl"))
    assert reading.file.version == '"version 1"'
    assert reading.file.bytes == len(server.content["/a.jsonl"])
    found = list(reading)
    assert len(found) == 20_000
    assert found[-1] == Document("here", "a.jsonl", 19_999, "text 19999")


def test_a_query_opens_a_file_and_is_told_to_nobody(server: Server) -> None:
    key = "s/3" * 3
    server.content[f"/in/a.jsonl?key={key}"] = records(1)
    (reading,) = open_all(make_reader("jsonl", f"{server.url}/in/a.jsonl?key={key}"))
    assert list(reading) == [Document("here", "a.jsonl", 0, "text 1")]
    assert key not in repr(reading.file)
    assert key not in json.dumps(identity(reading.file))
    server.content.clear()
    with pytest.raises(CorpusError, match=r"a\.jsonl cannot be read") as gone:
        hash_file(reading.file)
    with pytest.raises((ConfigError, CorpusError), match=r"b\.jsonl") as missing:
        find_files(make_reader("jsonl", f"{server.url}/in/b.jsonl?key={key}"))
    for error in (gone, missing):
        assert key not in "".join(traceback.format_exception(error.value))


def test_queries_that_name_files_are_not_taken_for_one_file(server: Server) -> None:
    server.content["/get?id=1"] = server.content["/get?id=2"] = records(1)
    with pytest.raises(ConfigError, match="would both be called get in the corpus; give each a source of its own"):
        find_files(make_reader("jsonl", f"{server.url}/get?id=1", f"{server.url}/get?id=2"))


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("failure", ["refuses", "breaks"])
def test_a_read_that_fails_is_tried_again_from_where_it_was(server: Server, ranges: bool, failure: str) -> None:
    server.ranges = ranges
    content = bytes(range(256)) * 2000
    server.content["/a"] = content
    with RemoteFile(f"{server.url}/a") as file:
        assert file.read(1000) == content[:1000]
        file._drop()
        if failure == "refuses":
            server.failures = 3
        else:
            server.breaks_after = 5000
        found = b""
        while block := file.read(50_000):
            found += block
        assert found == content[1000:]


def test_a_read_that_keeps_failing_is_one_clear_error(server: Server) -> None:
    server.content["/a.jsonl"] = records(1)
    (reading,) = open_all(make_reader("jsonl", f"{server.url}/a.jsonl"))
    server.failures, server.requests = 100, 0
    with pytest.raises(CorpusError, match=r"input http://.*/a\.jsonl cannot be read: .*check the address") as caught:
        list(reading)
    assert server.requests == 1 + len(remote.PAUSES_SECONDS)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_gone_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []

    def attempt() -> None:
        attempts.append(1)
        raise FileNotFoundError("gone")

    monkeypatch.setattr(remote, "PAUSES_SECONDS", (60.0,))
    with pytest.raises(CorpusError, match="input x cannot be read: gone"):
        persistently("x", attempt)
    assert len(attempts) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_parquet_over_http(server: Server, tmp_path: Path, ranges: bool) -> None:
    words = [f"text {number}" * 20 for number in range(3000)]
    pq.write_table(pa.table({"text": words, "other": words[::-1]}), tmp_path / "a.parquet", row_group_size=500)
    server.ranges = ranges
    server.content["/a.parquet"] = (tmp_path / "a.parquet").read_bytes()
    (reading,) = open_all(make_reader("parquet", f"{server.url}/a.parquet"))
    assert texts(list(reading)) == words
    assert reading.content_hash == hash_file(reading.file)


def test_a_server_that_refuses_is_no_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES_SECONDS", ())
    with pytest.raises(CorpusError, match=r"input http://127\.0\.0\.1:1/x\.jsonl cannot be read: Cannot connect"):
        find_files(make_reader("jsonl", "http://127.0.0.1:1/x.jsonl"))
