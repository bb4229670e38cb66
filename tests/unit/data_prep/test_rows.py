from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep.documents import rows as rows_module
from data_prep.documents.rows import (
    BAND_ROW,
    BANDS,
    COUNTS_NAME,
    GONE,
    GONE_ROW,
    HASH_ROW,
    HASHES,
    NODES,
    RowWriter,
    read_rows,
    sorted_rows,
)
from data_prep.documents.runs import write_array
from pipeline.errors import CorpusError
from tests.unit.data_prep.reads import UPPER_MAX

SPECIAL = st.sampled_from([0, 1, 2, 2**32, 2**63, UPPER_MAX - 1, UPPER_MAX])
KEYS = st.one_of(SPECIAL, st.integers(0, UPPER_MAX))
ROWS = st.lists(st.tuples(KEYS, KEYS, KEYS, st.integers(0, 2**32 - 1), st.integers(0, 2)), max_size=30)


def counted(rows: NDArray[Any] | Iterable[tuple[int, ...]]) -> Counter[tuple[int, ...]]:
    return Counter(rows.tolist() if isinstance(rows, np.ndarray) else rows)


@given(st.lists(ROWS, max_size=3), KEYS, KEYS, st.integers(1, 5))
def test_a_slice_of_many_runs_is_what_a_filter_leaves(
    tmp_path_factory: pytest.TempPathFactory,
    tasks: list[list[tuple[int, int, int, int, int]]],
    first: int,
    last: int,
    run_rows: int,
) -> None:
    work = tmp_path_factory.mktemp("rows")
    folders = [work / str(number) for number in range(len(tasks))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "_RUN_ROWS", run_rows)
        for folder, rows in zip(folders, tasks, strict=True):
            folder.mkdir()
            with RowWriter(folder) as writer:
                for row in rows:
                    writer.add(*row)
            assert len(list(folder.glob(f"{HASHES}-*"))) == -(-len(rows) // run_rows)
    every = [row for rows in tasks for row in rows]
    found = read_rows(folders, HASHES, first, last)
    assert found.dtype == HASH_ROW
    assert counted(found) == counted(row for row in every if first <= row[0] <= last)
    assert counted(read_rows(folders, HASHES, 0, UPPER_MAX)) == counted(every)


@given(st.lists(st.tuples(KEYS, KEYS), max_size=20))
def test_rows_are_sorted_by_all_their_fields(rows: list[tuple[int, int]]) -> None:
    assert sorted_rows(np.array(rows, dtype=GONE_ROW)).tolist() == sorted(rows)


@given(st.lists(st.tuples(KEYS, KEYS, KEYS), max_size=20), st.integers(1, 4), st.integers(1, 20), KEYS, KEYS)
def test_bands_and_nodes_come_back_by_range(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[tuple[int, int, int]],
    batch: int,
    run_bands: int,
    first: int,
    last: int,
) -> None:
    """As reading does it: the bands of some documents come before the row of the last of them."""
    folder = tmp_path_factory.mktemp("bands")
    nodes = np.array([node for node, _, _ in documents], dtype=np.uint64)
    hashes = np.array([bands for _, *bands in documents], dtype=np.uint64).reshape(-1, 2)
    with pytest.MonkeyPatch.context() as patch, RowWriter(folder) as writer:
        patch.setattr(rows_module, "_RUN_ROWS", 2 * batch)
        patch.setattr(rows_module, "_RUN_BAND_ROWS", run_bands)
        for number, (node, upper, _) in enumerate(documents):
            if (number + 1) % batch == 0:
                done = slice(number + 1 - batch, number + 1)
                writer.add_bands(nodes[done], hashes[done])
            writer.add(upper, 0, node, 1, 0)
        rest = slice(len(documents) // batch * batch, None)
        if len(nodes[rest]):
            writer.add_bands(nodes[rest], hashes[rest])
    bands = [(hash_, node) for node, *hashes in documents for hash_ in hashes]
    assert counted(read_rows([folder], BANDS, first, last)) == counted(row for row in bands if first <= row[0] <= last)
    expected = [(node, upper) for node, upper, _ in documents]
    assert counted(read_rows([folder], NODES, first, last)) == counted(r for r in expected if first <= r[0] <= last)


def test_without_minhash_there_are_no_bands(tmp_path: Path) -> None:
    with RowWriter(tmp_path) as writer:
        writer.add(1, 2, 3, 4, 0)
    names = {f"{HASHES}-000000.npy", f"{NODES}-000000.npy", COUNTS_NAME}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert read_rows([tmp_path], NODES, 0, UPPER_MAX).tolist() == [(3, 1)]
    assert read_rows([tmp_path], BANDS, 0, UPPER_MAX).dtype == BAND_ROW


def test_rows_of_no_folder_are_none_but_have_a_type() -> None:
    assert read_rows([], GONE, 0, UPPER_MAX).dtype == GONE_ROW
    assert not len(read_rows([], GONE, 0, UPPER_MAX))


@pytest.mark.parametrize("name", [f"{HASHES}-000001.npy", f"{NODES}-000002.npy", COUNTS_NAME])
@pytest.mark.parametrize("left", [None, b"", b"\x93NUM"])
def test_a_lost_or_cut_file_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, left: bytes | None
) -> None:
    monkeypatch.setattr(rows_module, "_RUN_ROWS", 2)
    with RowWriter(tmp_path) as writer:
        for number in range(5):
            writer.add(number, 0, number, 1, 0)
    assert all(len(read_rows([tmp_path], kind, 0, UPPER_MAX)) == 5 for kind in (HASHES, NODES))
    (tmp_path / name).unlink() if left is None else (tmp_path / name).write_bytes(left)
    with pytest.raises(CorpusError, match=rf"{name} is missing or damaged .* delete {tmp_path} and give the same"):
        [read_rows([tmp_path], kind, 0, UPPER_MAX) for kind in (HASHES, NODES)]


def test_a_folder_without_its_documents_that_go_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"gone-0\.npy is missing or damaged"):
        read_rows([tmp_path], GONE, 0, UPPER_MAX)


def write_half(folder: Path) -> None:
    with RowWriter(folder) as writer:
        writer.add(1, 2, 3, 4, 0)
        raise ZeroDivisionError


def test_after_an_error_nothing_more_is_written(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_half(tmp_path)
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.tuples(KEYS, KEYS), max_size=20))
def test_arrays_are_written_as_numpy_writes_them(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("arrays")
    array = np.array(rows, dtype=GONE_ROW)[::2]
    write_array(folder / "ours.npy", array)
    np.save(folder / "theirs.npy", array)
    assert (folder / "ours.npy").read_bytes() == (folder / "theirs.npy").read_bytes()
