"""Files of a dataset's repository by hf://, from a hub of our own, spoken to by the real client.

It shows listing, globs, revisions and reads in ranges. It cannot show what a real hub adds: tokens and gated datasets,
storage that downloads are redirected to, listings in pages, limits of requests.
"""

import json
import threading
from collections.abc import Iterator

import fsspec
import pytest

from data_prep.documents.document import Document
from data_prep.readers import find_files, hash_file, read_file, remote
from pipeline.config.prep.readers import JsonlReader
from pipeline.config.prep.recipe import Source
from pipeline.errors import ConfigError, CorpusError
from tests.integration.hub import Hub
from tests.integration.storage import without_proxies

PLACE = "hf://datasets/org/name"


def lines(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with three files."""
    monkeypatch.setattr(remote, "PAUSES_SECONDS", (0.01,))
    monkeypatch.setattr(remote, "BLOCK_BYTES", 10_000)
    without_proxies(monkeypatch)
    with Hub() as hub:
        files = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)  # HF_ENDPOINT, read when it was imported
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", files)
        hub.files = {"data/a.jsonl": lines(*map(str, range(5000))), "data/sub/b.jsonl": lines("b"), "readme.md": b"x"}
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        fsspec.get_filesystem_class("hf").clear_instance_cache()
        yield hub
        fsspec.get_filesystem_class("hf").clear_instance_cache()
        hub.shutdown()
        thread.join()


def reader(path: str) -> JsonlReader:
    return JsonlReader(type="jsonl", paths=(path,))


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("path", "origins"),
    [
        ("", ["data/a.jsonl", "data/sub/b.jsonl"]),
        ("/data", ["a.jsonl", "sub/b.jsonl"]),
        ("@main/data/", ["a.jsonl", "sub/b.jsonl"]),
        ("/./data/sub", ["data/sub/b.jsonl"]),
        ("/**/*.jsonl", ["data/a.jsonl", "data/sub/b.jsonl"]),
        ("/data/*.jsonl", ["a.jsonl"]),
        ("/data/a.jsonl", ["a.jsonl"]),
    ],
)
def test_folders_globs_and_revisions(path: str, origins: list[str]) -> None:
    files = find_files(reader(PLACE + path))
    assert [file.origin for file in files] == origins
    assert all(file.bytes and file.version for file in files)


def test_what_is_read_is_what_is_there(hub: Hub) -> None:
    (file,) = find_files(reader(f"{PLACE}/data/a.jsonl"))
    reading = read_file(Source(name="here", reader=reader(PLACE)), file)
    assert [record.text for record in reading if isinstance(record, Document)] == list(map(str, range(5000)))
    assert reading.content_hash == hash_file(file)
    hub.files["data/a.jsonl"] = lines(*map(str, range(1, 5001)))
    assert find_files(reader(f"{PLACE}/data/a.jsonl"))[0].version != file.version


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("path", ["hf://datasets/org/other", f"{PLACE}/nothing.jsonl", f"{PLACE}/*.warc"])
def test_what_is_not_there(path: str) -> None:
    with pytest.raises((ConfigError, CorpusError), match="hf://"):
        find_files(reader(path))
