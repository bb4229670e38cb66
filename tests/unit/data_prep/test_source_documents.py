import resource
import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.documents import source as source_documents
from data_prep.documents.frames import StoredDocument
from data_prep.documents.rows import GONE, GONE_ROW, sorted_rows
from data_prep.documents.runs import DocumentRuns, write_array
from data_prep.documents.source import HASHES_END, GoneFolder, SourceDocuments, hash_ranges
from data_prep.documents.split import SPLITS, SplitShares
from pipeline.errors import CorpusError
from tests.unit.data_prep.reads import UPPER_MAX, Given, hashes, write_reads

SHARES = SplitShares(0.4, 0.2)
DOCUMENTS = st.lists(
    st.builds(
        lambda hash_, position: Given(SHARES.split_of(hash_), hash_, f"f{position % 3}", position, b"text", b"{}"),
        hashes(6),
        st.integers(0, 30),
    ),
    max_size=20,
    unique_by=lambda document: document.position,
)
CUTS = st.lists(st.sampled_from([1, 2, 2**32, 2**32 + 1, 2**63, UPPER_MAX - 1, UPPER_MAX]), unique=True).map(sorted)


def write(
    work: Path, documents: Sequence[Given], gone: set[Given], moved: dict[int, int], text_bytes: int
) -> SourceDocuments:
    """Documents of even position are read by one task, the others by another; those that go are in three ranges."""
    for parity in range(2):
        mine = [one for one in documents if one.position % 2 == parity]
        write_reads(work / f"reads-{parity}", "web", mine, run_bytes=1500)
    folders = tuple(GoneFolder(*both, f"gone-{number}") for number, both in enumerate(hash_ranges(3)))
    for first, last, name in folders:
        rows = [
            (one.hash >> 64, one.node("web")) for one in documents if one in gone and first <= one.hash >> 64 <= last
        ]
        (work / name).mkdir()
        write_array(work / name / f"{GONE}-0.npy", sorted_rows(np.array(rows, dtype=GONE_ROW)))
    return SourceDocuments("web", "", "", tuple(moved.items()), text_bytes, ("reads-0", "reads-1"), folders)


def by_definition(
    documents: Sequence[Given], gone: set[Given], moved: dict[int, int], split: int
) -> list[StoredDocument]:
    left = [one for one in documents if one not in gone and moved.get(one.hash, one.split) == split]
    return [one.stored for one in sorted(left, key=lambda one: (one.hash, one.stored.id("web")))]


@given(st.data(), DOCUMENTS, CUTS, st.integers(1, 40))
def test_any_ranges_give_the_documents_that_stay_by_hash(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    documents: list[Given],
    cuts: list[int],
    num_steps: int,
) -> None:
    gone = set(data.draw(st.lists(st.sampled_from(documents), unique=True))) if documents else set()
    some = st.lists(st.sampled_from([one.hash for one in documents]), max_size=2) if documents else st.just([])
    moved = {hash_: (SHARES.split_of(hash_) + 1) % 3 for hash_ in data.draw(some)}
    work = tmp_path_factory.mktemp("source")
    source = write(work, documents, gone, moved, num_steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_documents, "_STEP_BYTES", 1)
        for number, split in enumerate(SPLITS):
            bounds = zip([0, *cuts], [*(cut - 1 for cut in cuts), UPPER_MAX], strict=True)
            found = [one for first, last in bounds for one in source.documents(work, split, first, last)]
            assert found == by_definition(documents, gone, moved, number)


def test_only_a_part_of_the_documents_is_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_documents, "_STEP_BYTES", 100)
    documents = [Given(0, number << 120, "a", number, b"x" * 10) for number in range(256)]
    source = write(tmp_path, documents, set(), {}, 2560)
    held: list[int] = []

    def counted(*arguments: object) -> list[StoredDocument]:
        step = list(original(*arguments))  # type: ignore[arg-type]
        held.append(len(step))
        return step

    original = DocumentRuns.documents
    monkeypatch.setattr(DocumentRuns, "documents", counted)
    assert len(list(source.documents(tmp_path, "train"))) == 256
    assert sorted(held)[-3] <= 11  # two tasks were read whole, to bring their documents together
    assert not list(tmp_path.glob("merge/*"))


@pytest.fixture
def few_open_files() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("step_bytes", [10**6, 10])
def test_files_of_many_tasks_are_not_open_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_open_files: None, step_bytes: int
) -> None:
    monkeypatch.setattr(source_documents, "_STEP_BYTES", step_bytes)
    reads = tuple(f"reads-{number}" for number in range(300))
    for number, name in enumerate(reads):
        write_reads(tmp_path / name, "web", [Given(0, number << 110, "a", number, b"text")])
    source = SourceDocuments("web", "", "", (), 1200, reads, ())
    assert len(list(source.documents(tmp_path, "train"))) == 300


def test_a_moved_document_that_goes_is_gone(tmp_path: Path) -> None:
    documents = [Given(0, 5, "a", 0, b"text"), Given(0, 6, "a", 1, b"text")]
    source = write(tmp_path, documents, {documents[0]}, {5: 1, 6: 1}, 8)
    assert list(source.documents(tmp_path, "train")) == []
    assert [one.hash for one in source.documents(tmp_path, "validation")] == [6]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_only_those_that_go_in_a_range_are_looked_for(tmp_path: Path, kept: int) -> None:
    """The folders of other ranges are not there: to open one would be an error."""
    bounds = hash_ranges(3)
    documents = [Given(0, (first + 5) << 64, "a", number, b"text") for number, (first, _) in enumerate(bounds)]
    source = write(tmp_path, documents, {documents[1]}, {}, 16)
    for number in {0, 1, 2} - {kept}:
        shutil.rmtree(tmp_path / f"gone-{number}")
    first, last = bounds[kept]
    left = [] if kept == 1 else [kept]
    assert [one.position for one in source.documents(tmp_path, "train", first, last)] == left
    for wider in ((first, last + 1), (first - 1, last)):
        if wider[0] >= 0 and wider[1] < HASHES_END:
            with pytest.raises(CorpusError, match=r"gone-0\.npy is missing"):
                list(source.documents(tmp_path, "train", *wider))


@given(st.integers(1, 300), st.integers(0, UPPER_MAX), st.integers(300, UPPER_MAX))
def test_ranges_are_equal_parts_without_gaps(number: int, first: int, size: int) -> None:
    last = min(UPPER_MAX, first + size)
    first = max(0, last - size)
    ranges = hash_ranges(number, first, last)
    assert len(ranges) == number
    assert (ranges[0][0], ranges[-1][1]) == (first, last)
    assert all(before[1] + 1 == after[0] for before, after in pairwise(ranges))
    sizes = [stop - start + 1 for start, stop in ranges]
    assert 0 < min(sizes) <= max(sizes) <= min(sizes) + 1


def test_without_bounds_ranges_are_those_of_all_hashes() -> None:
    assert hash_ranges(1) == [(0, HASHES_END - 1)]
    assert hash_ranges(2)[1] == (2**63, UPPER_MAX)
