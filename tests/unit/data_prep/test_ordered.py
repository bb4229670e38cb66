from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dedup import ordered
from data_prep.dedup.ordered import in_order, stretches, with_firsts, within
from data_prep.documents.rows import GONE, GONE_ROW, HASH_ROW, HASHES, RowWriter
from data_prep.documents.runs import write_array
from pipeline.errors import CorpusError

UPPER_MAX = 2**64 - 1
ORDER = ("upper", "lower", "source", "node")
NUMBERS = st.sampled_from([0, 1, 2, 2**63, UPPER_MAX - 1, UPPER_MAX])
ROW = st.tuples(NUMBERS, NUMBERS, NUMBERS, st.integers(0, 9), st.integers(0, 2))
TASKS = st.lists(st.tuples(st.integers(0, 2), st.lists(ROW, max_size=12)), max_size=6)
"""Of each task the number of its source, and its rows."""


def written(folder: Path, rows: Sequence[tuple[int, ...]]) -> Path:
    folder.mkdir()
    with RowWriter(folder) as writer:
        for row in rows:
            writer.add(*row)  # type: ignore[call-arg]
    return folder


def found(folder: Path, tasks: Sequence[tuple[int, Sequence[tuple[int, ...]]]], first: int, last: int) -> list:
    return [
        stretch
        for number, (source, rows) in enumerate(tasks)
        for stretch in stretches([written(folder / str(number), rows)], HASHES, source, first, last)
    ]


@given(TASKS, st.integers(1, 20), st.tuples(NUMBERS, NUMBERS).map(sorted))
def test_all_rows_come_in_order_however_few_are_held(
    tmp_path_factory: pytest.TempPathFactory,
    tasks: list[tuple[int, list[tuple[int, ...]]]],
    max_rows: int,
    bounds: list[int],
) -> None:
    expected = sorted(
        (upper, lower, source, node, size, split)
        for source, rows in tasks
        for upper, lower, node, size, split in rows
        if bounds[0] <= upper <= bounds[1]
    )
    parts = found(tmp_path_factory.mktemp("rows"), tasks, *bounds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "MAX_BYTES", max_rows * HASH_ROW.itemsize)
        pieces = [piece[[*ORDER, "bytes", "split"]].tolist() for piece in in_order(parts, ORDER)]
    rows = [row for piece in pieces for row in piece]
    assert [row[:4] for row in rows] == [row[:4] for row in expected]
    assert sorted(rows) == expected
    assert all(len(piece) <= max_rows or len({row[:4] for row in piece}) == 1 for piece in pieces)


@given(TASKS, st.integers(1, 20))
def test_the_first_of_a_group_is_known_over_the_borders_of_pieces(
    tmp_path_factory: pytest.TempPathFactory, tasks: list[tuple[int, list[tuple[int, ...]]]], max_rows: int
) -> None:
    parts = found(tmp_path_factory.mktemp("rows"), tasks, 0, UPPER_MAX)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "MAX_BYTES", max_rows * HASH_ROW.itemsize)
        pieces = list(with_firsts(in_order(parts, ORDER), ("upper", "lower")))
    seen: set[tuple[int, ...]] = set()
    for rows, is_first in pieces:
        for hash_, first in zip(rows[["upper", "lower"]].tolist(), is_first.tolist(), strict=True):
            assert first == (hash_ not in seen)
            seen.add(hash_)


def test_rows_that_agree_in_a_field_are_found_by_the_next(tmp_path: Path) -> None:
    write_array(tmp_path / f"{GONE}-0.npy", np.array([(4, 9), (5, 1), (5, 3), (5, 8), (6, 2)], GONE_ROW))
    of_five = stretches([tmp_path], GONE, 0, 5, 5)
    assert [stretch.rows().tolist() for stretch in within(of_five, "node", 2, 8)] == [[(5, 3), (5, 8)]]
    assert within(of_five, "node", 4, 7) == []


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    written(tmp_path / "task", [(1, 1, 1, 1, 0)])
    next((tmp_path / "task").glob(f"{HASHES}-*")).unlink()
    with pytest.raises(CorpusError, match="missing or damaged"):
        stretches([tmp_path / "task"], HASHES, 0, 0, UPPER_MAX)
