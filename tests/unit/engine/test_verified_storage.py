import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.engine.checkpoint.commit import Commit, begin, commit
from pipeline.engine.checkpoint.storage import VerifiedStorage
from pipeline.errors import CheckpointError


class Touch:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, Commit]:
    """A committed checkpoint of one file."""
    partial = begin(tmp_path / "checkpoints", 3)
    storage = VerifiedStorage()
    storage.write_to(partial)
    (partial / "state").mkdir()
    storage.save({"weight": torch.arange(1000.0)}, str(partial / "state" / "a.pt"))
    record = Commit(3, 1, {}, tuple(storage.written))
    return commit(partial, record), record


def reader(stored: tuple[Path, Commit]) -> VerifiedStorage:
    storage = VerifiedStorage()
    storage.read_from(*stored)
    return storage


def test_what_is_saved_is_loaded_and_its_record_is_the_files(stored: tuple[Path, Commit]) -> None:
    folder, record = stored
    assert [file.name for file in record.files] == ["state/a.pt"]
    assert record.files[0].bytes == (folder / "state" / "a.pt").stat().st_size
    loaded = reader(stored).load(str(folder / "state" / "a.pt"), map_location="cpu")
    assert torch.equal(loaded["weight"], torch.arange(1000.0))


def test_the_trap_springs_when_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Touch(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


def test_an_unlisted_file_is_refused_before_it_is_unpickled(stored: tuple[Path, Commit], tmp_path: Path) -> None:
    folder, _ = stored
    torch.save(Touch(tmp_path / "sprung"), folder / "state" / "planted.pt")
    with pytest.raises(CheckpointError, match=r"state/planted.pt is not listed"):
        reader(stored).load(str(folder / "state" / "planted.pt"))
    assert not (tmp_path / "sprung").exists()


def test_a_replaced_file_is_refused_before_it_is_unpickled(stored: tuple[Path, Commit], tmp_path: Path) -> None:
    folder, record = stored
    path = folder / "state" / "a.pt"
    torch.save(Touch(tmp_path / "sprung"), path)
    with pytest.raises(CheckpointError, match=r"state/a.pt has \d+ bytes, should have"):
        reader(stored).load(str(path))
    path.write_bytes(path.read_bytes().ljust(record.files[0].bytes, b"\0"))
    with pytest.raises(CheckpointError, match=r"state/a.pt has other bytes than were written"):
        reader(stored).load(str(path))
    assert not (tmp_path / "sprung").exists()


def test_a_flipped_bit_is_refused(stored: tuple[Path, Commit]) -> None:
    path = stored[0] / "state" / "a.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"step-00000003: state/a.pt has other bytes than were written"):
        reader(stored).load(str(path))


def test_a_write_that_fails_is_kept_for_all_ranks_to_hear(tmp_path: Path) -> None:
    storage = VerifiedStorage()
    storage.write_to(tmp_path)
    storage.save({"a": 1}, str(tmp_path / "nothing" / "a.pt"))
    assert storage.error is not None
    assert storage.error.startswith("a.pt: ")
    assert storage.written == []
    storage.write_to(tmp_path)
    assert storage.error is None
