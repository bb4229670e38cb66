import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.documents import runs as document_runs
from data_prep.documents.document import Document, document_id
from data_prep.documents.runs import DOCUMENTS_NAME, FACTS_NAME, INDEX_NAME, DocumentRuns, DocumentWriter
from pipeline.errors import CorpusError
from tests.unit.data_prep.reads import UPPER_MAX, Given, hashes

TEXTS = st.one_of(st.sampled_from([b"", b"\0", "é\r\n\u2028🙂".encode()]), st.binary(max_size=40))
METADATA = st.sampled_from([b"", b'{"url":"http://x.org/\xc3\xa9"}'])
POSITIONS = st.one_of(st.integers(0, 3), st.just(2**64 - 1))
ORIGINS = st.sampled_from(["a.txt", "b/é.txt", "with\nbreak", "line\u2028separator"])
DOCUMENTS = st.lists(st.builds(Given, st.integers(0, 2), hashes(8), ORIGINS, POSITIONS, TEXTS, METADATA), max_size=40)
BORDERS = st.sampled_from([0, 1, 2, 2**32 - 1, 2**32, 2**63, 2**63 + 1, UPPER_MAX - 1, UPPER_MAX])


def write(folder: Path, documents: list[Given], run_bytes: int = 1 << 20) -> DocumentRuns:
    with DocumentWriter(folder, run_bytes) as writer:
        for document in documents:
            writer.add(*document)
    return DocumentRuns(folder)


@pytest.fixture
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_runs, "FRAME_BYTES", 50)


@given(DOCUMENTS, st.integers(0, 2), BORDERS, BORDERS, st.integers(0, 3000))
def test_a_range_of_a_split_is_what_a_filter_leaves(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[Given],
    split: int,
    first: int,
    last: int,
    run_bytes: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_runs, "FRAME_BYTES", 80)
        runs = write(tmp_path_factory.mktemp("runs"), documents, run_bytes)
    wanted = [one.stored for one in documents if one.split == split and first <= one.hash >> 64 <= last]
    assert Counter(runs.documents(split, first, last)) == Counter(wanted)


def test_a_document_is_found_with_its_id_and_its_metadata(tmp_path: Path) -> None:
    metadata = {"url": "http://x.org/é", "language": "fr"}
    given_document = Given(0, 5, "b/é.txt", 7, b"text", json.dumps(metadata).encode())
    (found,) = write(tmp_path, [given_document]).documents(0, 0, UPPER_MAX)
    assert found.id("web") == document_id("web", "b/é.txt", 7) == int(Document("web", "b/é.txt", 7, "").id, 16)
    assert found.fields == metadata
    assert found._replace(metadata=b"").fields == {}


def test_a_range_opens_only_the_frames_that_overlap_it(tmp_path: Path, small_frames: None) -> None:
    runs = write(tmp_path, [Given(0, number << 64, "a", number, b"x" * 60) for number in range(50)])
    index = np.load(tmp_path / INDEX_NAME)
    assert len(index) == 50
    offset, size = int(index["offset"][20]), int(index["size"][20])
    damage(tmp_path / DOCUMENTS_NAME, offset + size // 2, b"\xff" * 4)
    assert len(list(runs.documents(0, 0, 19))) == 20
    assert len(list(runs.documents(0, 21, UPPER_MAX))) == 29
    with pytest.raises(CorpusError):
        list(runs.documents(0, 20, 20))


def damage(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def test_every_flipped_bit_is_an_error_with_a_cure_or_harmless(tmp_path: Path) -> None:
    documents = [Given(0, number << 64, "a", number, b"some text %d" % number) for number in range(30)]
    runs = write(tmp_path, documents)
    whole = (tmp_path / DOCUMENTS_NAME).read_bytes()
    outcomes = Counter[str]()
    for bit in range(8 * len(whole)):
        damage(tmp_path / DOCUMENTS_NAME, bit // 8, bytes([whole[bit // 8] ^ 1 << bit % 8]))
        outcomes[outcome(runs, documents)] += 1
        damage(tmp_path / DOCUMENTS_NAME, bit // 8, whole[bit // 8 : bit // 8 + 1])
    assert set(outcomes) <= {"harmless", "cure"}
    assert outcomes["cure"] > 50 * outcomes["harmless"]  # zstd has bits in its tables that nothing uses


def outcome(runs: DocumentRuns, documents: list[Given]) -> str:
    try:
        same = list(runs.documents(0, 0, UPPER_MAX)) == [one.stored for one in documents]
        return "harmless" if same else "wrong"
    except CorpusError as error:
        found = re.search(r"documents is damaged \(.*\); delete that folder and give the same command$", str(error))
        return "cure" if found else str(error)


@pytest.mark.parametrize("missing_bytes", [1, 5, 10**6])
def test_a_cut_file_is_an_error_with_a_cure(tmp_path: Path, missing_bytes: int) -> None:
    runs = write(tmp_path, [Given(0, number << 64, "a", number, b"some text") for number in range(30)])
    content = (tmp_path / DOCUMENTS_NAME).read_bytes()
    (tmp_path / DOCUMENTS_NAME).write_bytes(content[:-missing_bytes])
    with pytest.raises(CorpusError, match=r"is damaged .* give the same command"):
        list(runs.documents(0, 0, UPPER_MAX))


@pytest.mark.parametrize("name", [DOCUMENTS_NAME, INDEX_NAME, FACTS_NAME])
def test_a_lost_file_is_an_error_with_a_cure(tmp_path: Path, name: str) -> None:
    runs = write(tmp_path, [Given(0, 1 << 64, "a", 0, b"some text")])
    (tmp_path / name).unlink()
    with pytest.raises(CorpusError, match=rf"{name} is missing or damaged .* delete {tmp_path} and give the same"):
        list(runs.documents(0, 0, UPPER_MAX))


def test_names_of_files_are_read_with_the_documents_that_come_from_them(tmp_path: Path, small_frames: None) -> None:
    write(tmp_path, [Given(0, number << 64, f"folder/{number}.txt", 0, b"x" * 60) for number in range(1000)])
    assert (tmp_path / FACTS_NAME).stat().st_size < 100
    found = DocumentRuns(tmp_path).documents(0, 700, 701)
    assert [one.origin for one in found] == ["folder/700.txt", "folder/701.txt"]


@pytest.mark.parametrize(("text_bytes", "metadata_bytes"), [(1000, 10), (10, 1000), (0, 0)])
def test_memory_is_bounded_by_runs_and_frames(tmp_path: Path, text_bytes: int, metadata_bytes: int) -> None:
    """Very short documents count, and so does metadata without a text."""
    noise, held = random.Random(0), [0]
    with DocumentWriter(tmp_path, run_bytes=300_000) as writer:
        for number in range(4000):
            text, metadata = noise.randbytes(text_bytes), noise.randbytes(metadata_bytes)
            writer.add(0, noise.getrandbits(128), "a", number, text, metadata)
            held.append(len(writer._rows))
    assert max(held) <= 300_000 / (text_bytes + metadata_bytes + 100)
    frame_bytes = 4000 * (text_bytes + metadata_bytes) / len(np.load(tmp_path / INDEX_NAME))
    assert (20_000 if text_bytes + metadata_bytes else 0) <= frame_bytes < 66_000


def write_half(folder: Path) -> None:
    with DocumentWriter(folder) as writer:
        writer.add(0, 1, "a", 0, b"text", b"")
        raise ZeroDivisionError


def test_after_an_error_there_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_half(tmp_path)
    assert not (tmp_path / INDEX_NAME).exists()
