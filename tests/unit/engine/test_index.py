"""A tensor's checksum and coverage do not depend on how it was divided; what is missing or doubled is found."""

import zlib
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.checkpoint.checksum import combined
from pipeline.engine.checkpoint.columns import Columns
from pipeline.engine.checkpoint.index import Index, Piece, Written, index_of, read_index
from pipeline.engine.checkpoint.tensors import Part, TensorReader, as_bytes, write_tensors
from pipeline.errors import CheckpointError

Stretch = tuple[int, int, Columns | None]
"""First element, the one behind the last, and whose elements they are."""


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_a_checksum_of_parts_is_that_of_the_whole(parts: list[bytes]) -> None:
    assert combined((zlib.crc32(part), len(part)) for part in parts) == zlib.crc32(b"".join(parts))


def test_a_checksum_over_more_than_memory_is_combined_at_once() -> None:
    """2^40 zero bytes: CRC-32 by squaring, against zlib over blocks of 2^20 combined in pairs."""
    crc, size = zlib.crc32(bytes(1 << 20)), 1 << 20
    while size < 1 << 40:
        crc, size = combined([(crc, size), (crc, size)]), size * 2
    assert combined([(0, 1 << 39), (0, 1 << 39)]) == 0
    assert combined([(zlib.crc32(b""), 0), (crc, size)]) == crc


@st.composite
def divided(draw: st.DrawFn) -> tuple[torch.Tensor, list[int], list[int]]:
    """A matrix, where it is cut when it is written, and where when it is read."""
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    length = rows * columns
    cuts = st.lists(st.integers(1, max(1, length - 1)), max_size=5).map(lambda at: sorted({0, *at, length}))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.int64]))
    return torch.arange(length).reshape(rows, columns).to(dtype), draw(cuts), draw(cuts)


@given(divided())
def test_a_tensor_comes_back_however_it_was_cut(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[torch.Tensor, list[int], list[int]]
) -> None:
    """Written in pieces by some ranks, read in others by others: the same values, and zlib's checksum of the whole."""
    whole, written_at, read_at = case
    folder = tmp_path_factory.mktemp("tensors")
    index = write(folder, "master/w", whole, written_at)
    reader = TensorReader(folder, read_index(folder))
    for start, end in pairwise(read_at):
        target = torch.empty(end - start, dtype=whole.dtype)
        reader.read_into("master/w", start, target)
        assert torch.equal(target, whole.reshape(-1)[start:end])
    assert torch.equal(reader.whole("master/w"), whole)
    assert index.tensor("master/w").crc32 == zlib.crc32(as_bytes(whole.reshape(-1)))


@st.composite
def divided_by_columns(draw: st.DrawFn) -> tuple[torch.Tensor, list[list[Stretch]]]:
    """A matrix, and how it is divided when it is written and when it is read: by columns, and those anywhere."""
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 8))

    def division() -> list[Stretch]:
        bounds = sorted({0, columns, *draw(st.lists(st.integers(0, columns), max_size=3))})
        found = []
        for first, last in pairwise(bounds):
            size = rows * (last - first)
            at = sorted({0, size, *draw(st.lists(st.integers(0, size), max_size=3))})
            part = Columns(first, last - first) if len(bounds) > 2 else None
            found += [(start, end, part) for start, end in pairwise(at)]
        return found

    return torch.arange(float(rows * columns)).reshape(rows, columns), [division(), division()]


@given(divided_by_columns())
def test_a_matrix_comes_back_in_other_columns(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[torch.Tensor, list[list[Stretch]]]
) -> None:
    """Its checksum is zlib's of the whole, whatever columns it was written in."""
    whole, (written_at, read_at) = case
    folder, written = tmp_path_factory.mktemp("columns"), []
    for rank, (start, end, columns) in enumerate(written_at):
        values = of_columns(whole, columns)[start:end].clone()
        part = Part("master/w", tuple(whole.shape), start, end - start, whole.dtype, lambda v=values: v, columns)
        written += write_tensors(folder, f"rank-{rank}", [part])[1]
    index = index_of("AdamW", reversed(written), {})
    (folder / "index.json").write_bytes(index.to_bytes())
    assert read_index(folder) == index
    assert index.tensor("master/w").crc32 == zlib.crc32(as_bytes(whole.reshape(-1)))
    reader = TensorReader(folder, index)
    for start, end, columns in read_at:
        target = torch.empty(end - start)
        reader.read_into("master/w", start, target, columns)
        assert torch.equal(target, of_columns(whole, columns)[start:end])
    assert torch.equal(reader.whole("master/w"), whole)


def of_columns(whole: torch.Tensor, columns: Columns | None) -> torch.Tensor:
    part = whole[:, columns.first : columns.first + columns.number] if columns else whole
    return part.reshape(-1).contiguous()


@pytest.mark.parametrize(
    ("pieces", "fault"),
    [
        ([(0, 2, 0, 1), (0, 2, 2, 1)], "its pieces have a gap at column 1"),
        ([(0, 4, 0, 2), (0, 4, 1, 2)], "its pieces overlap at column 2"),
        ([(0, 4, 0, 2)], "its pieces hold 2 of 3 columns"),
        ([(0, 3, 0, 2), (0, 2, 2, 1)], "its pieces hold 3 of 4 elements"),
        ([(0, 4, 0, 2), (1, 1, 2, 1)], "its pieces have a gap at element 0"),
    ],
)
def test_columns_that_are_no_whole_matrix_are_never_committed(
    pieces: list[tuple[int, int, int, int]], fault: str
) -> None:
    written = [
        Written("master/w", (2, 3), "F32", "a", start, length, 4 * length, 0, Columns(first, number))
        for start, length, first, number in pieces
    ]
    with pytest.raises(CheckpointError, match=f"master/w: {fault}"):
        index_of("AdamW", written, {})


def write(folder: Path, key: str, whole: torch.Tensor, cuts: list[int]) -> Index:
    written = []
    for rank, (start, end) in enumerate(pairwise(cuts)):
        values = whole.reshape(-1)[start:end].clone()
        part = Part(key, tuple(whole.shape), start, end - start, whole.dtype, lambda values=values: values)
        written += write_tensors(folder, f"state/rank-{rank:05d}.safetensors", [part])[1]
    index = index_of("AdamW", written, {"w": 3})
    (folder / "index.json").write_bytes(index.to_bytes())
    return index


@pytest.mark.parametrize(
    ("pieces", "fault"),
    [
        ([(0, 3), (4, 2)], "its pieces have a gap at element 3"),
        ([(0, 3), (2, 4)], "its pieces overlap at element 3"),
        ([(0, 3)], "its pieces hold 3 of 6 elements"),
        ([(0, 4), (4, 3)], "its pieces hold 7 of 6 elements"),
        ([(1, 5)], "its pieces have a gap at element 0"),
    ],
)
def test_pieces_that_are_no_whole_tensor_are_never_committed(pieces: list[tuple[int, int]], fault: str) -> None:
    written = [Written("master/w", (2, 3), "F32", "a", start, length, 4 * length, 0) for start, length in pieces]
    with pytest.raises(CheckpointError, match=f"master/w: {fault}"):
        index_of("AdamW", written, {})


def test_an_index_comes_back(tmp_path: Path) -> None:
    index = write(tmp_path, "exp_avg/w", torch.arange(6.0), [0, 2, 6])
    assert read_index(tmp_path) == index
    assert index.step_counts == {"w": 3}
    assert index.names("exp_avg") == {"w": index.tensor("exp_avg/w")}
    assert index.names("exp_avg_sq") == {}
    assert list(index.stretches("exp_avg/w", 1, 3)) == [
        (Piece("state/rank-00000.safetensors", 0, 2), 1, 1),
        (Piece("state/rank-00001.safetensors", 2, 4), 2, 2),
    ]
    with pytest.raises(CheckpointError, match="the checkpoint holds no master/w; it is of another model or optimizer"):
        index.tensor("master/w")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": []}', b"\xff"])
def test_an_index_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"index.json cannot be read \(.*\); use an older one"):
        read_index(tmp_path)


def test_files_are_plain_safetensors(tmp_path: Path) -> None:
    """Anybody can read them; the checksum that the commit lists is of the very bytes on disk."""
    import hashlib

    from safetensors.torch import load_file

    whole = torch.randn(5, 7)
    part = Part("master/w", (5, 7), 0, 35, torch.float32, lambda: whole.reshape(-1))
    empty = Part("master/none", (0,), 0, 0, torch.float32, lambda: torch.empty(0))
    record, _ = write_tensors(tmp_path, "state/rank-00000.safetensors", [part, empty])
    content = (tmp_path / record.name).read_bytes()
    assert (record.bytes, record.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert torch.equal(load_file(tmp_path / record.name)["master/w"], whole.reshape(-1))
