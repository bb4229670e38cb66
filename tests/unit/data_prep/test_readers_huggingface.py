"""Datasets of the `datasets` library, from this machine; what a hub without a network says."""

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from data_prep.documents.document import BrokenRecord, Document
from data_prep.readers import find_files, hash_file
from pipeline.config.prep.readers import Reader
from pipeline.errors import ConfigError, CorpusError
from tests.unit.data_prep.read_records import flaws, open_all, read_all, texts


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def reader(dataset: Path | str, **settings: object) -> Reader:
    return TypeAdapter(Reader).validate_python({"type": "huggingface", "dataset": str(dataset), **settings})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of 3 files of 4 rows."""
    folder = tmp_path / "some_data"
    folder.mkdir()
    for part in range(3):
        rows = [{"text": f"text {part} {row}", "meta": {"url": f"http://x/{part}"}} for row in range(4)]
        (folder / f"part{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


ALL = [f"text {part} {row}" for part in range(3) for row in range(4)]


def test_a_local_folder(folder: Path) -> None:
    found = read_all(reader(folder, metadata={"url": "meta.url"}))
    assert texts(found) == ALL
    origin = "some_data#00000-of-00001"
    assert found[5] == Document("here", origin, 5, "text 1 1", {"url": "http://x/1"})


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
def test_parts_hold_each_row_once(folder: Path, count: int) -> None:
    parts = [texts(list(reading)) for reading in open_all(reader(folder, num_shards=count))]
    assert len(parts) == count
    assert sorted(text for part in parts for text in part) == ALL
    assert [texts(list(reading)) for reading in open_all(reader(folder, num_shards=count))] == parts


def test_builders_with_files(folder: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["a", "b"], "image": [b"x", b"y"]}), tmp_path / "a.parquet")
    json_files = (str(folder / "part1.jsonl"),)
    assert texts(read_all(reader("json", data_files=json_files))) == ALL[4:8]
    parquet = reader("parquet", data_files=(str(tmp_path / "a.parquet"),), text_field="body")
    assert texts(read_all(parquet)) == ["a", "b"]


def test_the_version_changes_with_the_data_and_the_size_is_that_of_the_files(folder: Path) -> None:
    for settings in ({"dataset": folder}, {"dataset": "json", "data_files": (str(folder / "part0.jsonl"),)}):
        before = find_files(reader(**settings))
        assert before == find_files(reader(**settings))
        with open(folder / "part0.jsonl", "a") as file:
            file.write('{"text": "more", "meta": null}\n')
        after = find_files(reader(**settings))
        assert before[0].version != after[0].version
        assert before[0].bytes + 31 == after[0].bytes


def test_there_is_no_file_to_hash(folder: Path) -> None:
    (reading,) = open_all(reader(folder))
    list(reading)
    assert reading.content_hash is None
    assert hash_file(reading.file) is None


def test_rows_without_text_and_files_that_break(folder: Path) -> None:
    (folder / "part1.jsonl").write_text('{"text": null, "meta": {"url": "x"}}\n')
    found = read_all(reader(folder))
    assert len(texts(found)) == 8
    assert flaws(found) == [(4, "no_text")]
    (folder / "part1.jsonl").write_text("no json at all\n")
    found = read_all(reader(folder))
    assert texts(found) == ALL[:4]
    assert flaws(found) == [(4, "damaged_dataset")]


def test_a_damaged_file_is_told_with_its_part_and_no_network_is_blamed(tmp_path: Path) -> None:
    path = tmp_path / "some" / "a.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"text": [f"text {number}" for number in range(2000)]}), path, row_group_size=1000)
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    content[chunk.dictionary_page_offset : chunk.dictionary_page_offset + chunk.total_compressed_size] = (
        b"\xff" * chunk.total_compressed_size
    )
    path.write_bytes(content)
    (reading,) = open_all(reader(path.parent))
    *documents, broken = list(reading)
    assert isinstance(broken, BrokenRecord)
    assert len(documents) <= 1000
    assert (broken.reason, broken.lost_bytes) == ("damaged_dataset", len(content))
    assert reading.bytes == len(content)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"dataset": "nowhere/nothing"}, CorpusError, "dataset nowhere/nothing cannot be reached: .*check the network"),
        ({"dataset": "/nowhere/nothing"}, ConfigError, "dataset .'/nowhere/nothing'. cannot be opened"),
        ({"dataset": "json", "data_files": ("/nowhere.json",)}, ConfigError, "dataset .'json'. cannot be opened"),
        ({"split": "nothing"}, ConfigError, "split .'nothing'. cannot be read: .*train"),
        ({"name": "nothing"}, ConfigError, "cannot be opened: .*nothing"),
    ],
)
def test_what_is_not_there_is_named(folder: Path, settings: dict[str, object], error: type, says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        find_files(reader(**{"dataset": folder, **settings}))
    assert "\n" not in str(caught.value)
