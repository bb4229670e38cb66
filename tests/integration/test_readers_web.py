"""Listing and reading by HTTP from the standard library's own server, with its index pages."""

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from data_prep.readers import find_files, hash_file, read_file, remote
from pipeline.config.prep.readers import JsonlReader
from pipeline.config.prep.recipe import Source
from pipeline.errors import ConfigError, CorpusError


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The address of a server and the folder that it serves."""
    monkeypatch.setattr(remote, "PAUSES_SECONDS", (0.01,))
    for name in ("a.jsonl", "c d.jsonl", "sub/b.jsonl", "sub/deep/e.jsonl", "sub/read.me"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"text": name}) + "\n")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", tmp_path
        server.shutdown()
        thread.join()


def reader(*paths: str) -> JsonlReader:
    return JsonlReader(type="jsonl", paths=paths)


@pytest.mark.parametrize(
    ("path", "origins"),
    [
        ("", ["a.jsonl", "c%20d.jsonl", "sub/b.jsonl", "sub/deep/e.jsonl"]),
        ("/", ["a.jsonl", "c%20d.jsonl", "sub/b.jsonl", "sub/deep/e.jsonl"]),
        ("/*.jsonl", ["a.jsonl", "c%20d.jsonl"]),
        ("/**/*.jsonl", ["a.jsonl", "c%20d.jsonl", "sub/b.jsonl", "sub/deep/e.jsonl"]),
        ("/sub", ["b.jsonl", "deep/e.jsonl"]),
        ("/sub/", ["b.jsonl", "deep/e.jsonl"]),
        ("/./sub/", ["sub/b.jsonl", "sub/deep/e.jsonl"]),
        ("/sub/*/e.jsonl", ["deep/e.jsonl"]),
        ("/sub/b.jsonl", ["b.jsonl"]),
    ],
)
def test_index_pages_and_globs(site: tuple[str, Path], path: str, origins: list[str]) -> None:
    url, folder = site
    files = find_files(reader(url + path))
    assert [file.origin for file in files] == origins
    for file in files:
        (document,) = read_file(Source(name="here", reader=reader(url)), file)
        local = folder / document.text  # type: ignore[union-attr]
        assert file.path == f"{url}/{quote(document.text)}"  # type: ignore[union-attr]
        assert file.bytes == local.stat().st_size
        assert hash_file(file) == hash_file(find_files(reader(str(local)))[0])


def test_a_changed_file_of_a_listing_has_another_version(site: tuple[str, Path]) -> None:
    url, folder = site
    before = find_files(reader(url))
    assert find_files(reader(url)) == before
    os.utime(folder / "a.jsonl", (10**9, 10**9))
    assert [one.origin for one, other in zip(before, find_files(reader(url)), strict=True) if one != other] == [
        "a.jsonl"
    ]


def test_what_is_not_there(site: tuple[str, Path]) -> None:
    url, folder = site
    for path in ("/nothing/", "/nothing.jsonl", "/sub/*.warc"):
        with pytest.raises((ConfigError, CorpusError), match=url):
            find_files(reader(url + path))
    (file,) = find_files(reader(f"{url}/a.jsonl"))
    (folder / "a.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"input http.*/a\.jsonl cannot be read"):
        list(read_file(Source(name="here", reader=reader(url)), file))
