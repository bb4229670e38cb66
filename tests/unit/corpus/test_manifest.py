import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.manifest import FileEntry, read_manifest, write_manifest
from pipeline.corpus.verification import shard_files
from pipeline.errors import CorpusError
from tests.unit.corpus.build import write_corpus


def test_what_is_written_is_read(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"web": [[[1, 2, 3]], [[4]]], "code": [[range(200)]]})
    assert corpus.manifest == read_manifest(tmp_path)
    assert [entry.tokens for entry in corpus.manifest.shards("train", "web")] == [3, 1]
    assert corpus.manifest.tokens("train") == 204
    assert corpus.manifest.tokens("validation") == 0
    names = [file.path.name for file in shard_files(corpus)]
    assert names == ["code-000000.tar", "web-000000.tar", "web-000001.tar"]


def test_the_version_before_is_read(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"web": [[[1]]]})
    values = json.loads((tmp_path / "manifest.json").read_text())
    del values["test"], values["files"], values["sha256"]
    (tmp_path / "manifest.json").write_text(json.dumps({**values, "format_version": 1}))
    assert read_manifest(tmp_path).train == corpus.manifest.train


def test_a_fingerprint_follows_the_shards_bytes(tmp_path: Path) -> None:
    shards = [[[1, 2, 3]], [[4]]]
    prints = {
        name: write_corpus(tmp_path / name, {"web": content}).manifest.fingerprint("train", "web")
        for name, content in (("a", shards), ("b", shards), ("c", shards[::-1]), ("d", shards[:1]))
    }
    assert prints["a"] == prints["b"]
    assert len(set(prints.values())) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 3}, "format_version is 3; this Tarmac reads 1 and 2"),
        ({"format_version": None}, "format_version is None"),
        ({"dtype": "float32"}, "is damaged: .*; prepare the corpus again"),
        ({"surprise": 1}, "is damaged: .*; prepare the corpus again"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = write_corpus(tmp_path, {"web": [[[1]]]}).folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CorpusError, match=message) as error:
        read_manifest(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../../../outside", "..", ".", "", "/tmp", "a\\b", "a\0b"])
@pytest.mark.parametrize("place", ["source", "held out", "shard", "checksum", "file"])
def test_a_name_that_leads_out_of_the_corpus_is_refused(tmp_path: Path, name: str, place: str) -> None:
    """A shard's checksum is part of its name in a cache."""
    written = write_corpus(tmp_path, {"web": [[[1]]]}).manifest
    [entry] = written.train["web"]
    changes: dict[str, dict[str, object]] = {
        "source": {"train": {name: [entry]}},
        "held out": {"validation": {"web": [], name: [entry]}},
        "shard": {"test": {"web": [replace(entry, name=name)]}},
        "checksum": {"train": {"web": [replace(entry, sha256=name)]}},
        "file": {"files": {f"pairs/{name}/train.jsonl": FileEntry(bytes=1, xxh3="0")}},
    }
    write_manifest(tmp_path, written.model_copy(update=changes[place]))
    with pytest.raises(CorpusError, match="where the name of a file or source belongs; `tarmac prep` did not write"):
        read_manifest(tmp_path)


def test_no_byte_of_a_manifest_changes_unnoticed(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"web": [[[1]], [[2, 3]]]})
    path = corpus.folder / "manifest.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found = read_manifest(tmp_path)
        except CorpusError:
            continue
        assert found == corpus.manifest  # white space, or the name of the checksum


@pytest.mark.parametrize("content", ["", "{", "[]", "7"])
def test_a_torn_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(CorpusError, match=r"manifest.json"):
        read_manifest(tmp_path)


def test_a_folder_that_is_no_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"has no manifest.json; prepare it with `tarmac prep`"):
        read_manifest(tmp_path / "nothing")


def test_an_unknown_source_is_named_with_those_there_are(tmp_path: Path) -> None:
    corpus: Corpus = write_corpus(tmp_path, {"web": [[[1]]], "code": [[[1]]]})
    with pytest.raises(CorpusError, match="source 'books' is not in the corpus; it has code, web"):
        corpus.open_shard("train", "books", 0)
    with pytest.raises(CorpusError, match="it has none"):
        corpus.manifest.shards("validation", "web")
