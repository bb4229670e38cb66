import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from data_prep.documents.document import BrokenRecord, Document
from data_prep.reading.losses import DROPPED_NAME, REJECTS_NAME, SAMPLES_NAME, LossWriter, lowest

DOCUMENTS = [Document("web", "é.txt", number, f"text {number}", {"url": "u"}) for number in range(8)]


def lines(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def write(folder: Path, documents: Sequence[Document], write_dropped: bool, reason: str = "short:words") -> LossWriter:
    folder.mkdir(exist_ok=True)
    with LossWriter(folder, write_dropped) as losses:
        for document in documents:
            losses.drop(reason, document, document.text.upper(), document.metadata)
    return losses


def test_every_bad_record_is_written_with_file_position_and_reason(tmp_path: Path) -> None:
    with LossWriter(tmp_path, False) as losses:
        losses.reject(BrokenRecord("broken_json", "é.jsonl", 7, "expected ,"))
        losses.reject(BrokenRecord("broken_json", "é.jsonl", 9))
        losses.reject(BrokenRecord("no_text", "b", 0, "half of a pair: \ud800"))
        losses.reject(BrokenRecord("damaged_row_group", "c", 5, records=100))
        losses.reject(BrokenRecord("cut_short", "d", 6, lost_bytes=1000))
    assert losses.rejected == {"broken_json": 2, "no_text": 1, "damaged_row_group": 100, "cut_short": 1}
    assert losses.lost_bytes == 1000
    one = {"records": 1, "lost_bytes": 0}
    assert lines((tmp_path / REJECTS_NAME).read_bytes()) == [
        {"file": "é.jsonl", "position": 7, "reason": "broken_json", "detail": "expected ,", **one},
        {"file": "é.jsonl", "position": 9, "reason": "broken_json", "detail": "", **one},
        {"file": "b", "position": 0, "reason": "no_text", "detail": "half of a pair: ?", **one},
        {"file": "c", "position": 5, "reason": "damaged_row_group", "detail": "", "records": 100, "lost_bytes": 0},
        {"file": "d", "position": 6, "reason": "cut_short", "detail": "", "records": 1, "lost_bytes": 1000},
    ]
    assert [path.name for path in tmp_path.iterdir()] == [REJECTS_NAME]


def test_every_dropped_document_is_written_if_asked_for(tmp_path: Path) -> None:
    losses = write(tmp_path, DOCUMENTS, write_dropped=True)
    assert losses.dropped == {"short:words": 8}
    content = zstandard.ZstdDecompressor().decompressobj().decompress((tmp_path / DROPPED_NAME).read_bytes())
    assert lines(content) == [
        {
            "id": document.id,
            "file": "é.txt",
            "position": document.position,
            "reason": "short:words",
            "metadata": {"url": "u"},
            "text": document.text.upper(),
        }
        for document in DOCUMENTS
    ]


def test_if_not_asked_for_a_few_of_each_reason_are_kept(tmp_path: Path) -> None:
    with LossWriter(tmp_path, False) as losses:
        for document in DOCUMENTS:
            losses.drop("url:blocked" if document.position % 2 else "short:words", document, "\ud800" + "x" * 500, {})
    found = lines((tmp_path / SAMPLES_NAME).read_bytes())
    assert [line["reason"] for line in found] == ["short:words"] * 3 + ["url:blocked"] * 3
    assert {line["text"] for line in found} == {"?" + "x" * 399}
    assert [path.name for path in tmp_path.iterdir()] == [SAMPLES_NAME]


@given(st.permutations(DOCUMENTS), st.integers(0, 8))
def test_the_samples_are_the_same_however_files_are_divided_into_tasks(
    tmp_path_factory: pytest.TempPathFactory, documents: list[Document], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("losses")
    found = []
    for number, part in enumerate((documents[:cut], documents[cut:])):
        write(folder / str(number), part, write_dropped=False)
        path = folder / str(number) / SAMPLES_NAME
        found += lines(path.read_bytes()) if path.exists() else []
    assert [line["id"] for line in lowest(found)] == sorted(document.id for document in DOCUMENTS)[:3]


def test_nothing_lost_leaves_no_file(tmp_path: Path) -> None:
    write(tmp_path, [], write_dropped=True)
    assert list(tmp_path.iterdir()) == []
