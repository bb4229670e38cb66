import errno
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from data_prep.tasks import partial as partial_folders
from data_prep.tasks.partial import clear_partial, own_suffix
from data_prep.tasks.store import complete, find_done, forget, task_folder
from data_prep.tasks.task import Task
from pipeline.errors import CorpusError, TokenizerError
from tests.unit.data_prep.write_task import Failing, Place, WriteTask, done_of, files, finish


def test_a_finished_task_is_found_with_its_files_and_result(tmp_path: Path) -> None:
    task = WriteTask(number=1)
    assert done_of(tmp_path, task) is None
    done = finish(tmp_path, task)
    assert done.folder == task_folder(task) == f"write/{task.key}"
    assert [(output.name, output.bytes) for output in done.outputs] == [
        ("deep/0.txt", 500),
        ("deep/1.txt", 600),
        ("empty", 0),
    ]
    assert done.result == task.run(tmp_path, tmp_path)
    assert [path.name for path in (tmp_path / "write").iterdir()] == [task.key]


def test_checksums_tell_contents_apart(tmp_path: Path) -> None:
    one, two = (finish(tmp_path, WriteTask(places=(Place(content),))) for content in ("abc", "abd"))
    assert one.outputs[0].xxh3 != two.outputs[0].xxh3
    assert one.outputs[1] == two.outputs[1]


def test_a_task_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"^so$"):
        complete(tmp_path, Failing(error=TokenizerError("so")), "write/key")
    assert list((tmp_path / "write").iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_no_room_is_told_with_its_cure_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    kept = finish(tmp_path, WriteTask())
    sentence = rf"^work \({tmp_path}\) cannot be written: {os.strerror(number)}; make room .* finished tasks are kept$"
    with pytest.raises(CorpusError, match=sentence):
        complete(tmp_path, Failing(error=OSError(number, os.strerror(number))), "write/key")
    assert [path.name for path in (tmp_path / "write").iterdir()] == [Path(kept.folder).name]


def test_another_error_of_the_system_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        complete(tmp_path, Failing(error=PermissionError(errno.EACCES, "Permission denied")), "write/key")


@pytest.mark.parametrize("name", ["deep/0.txt", "empty"])
def test_a_missing_file_makes_a_task_unfinished_unless_it_is_not_needed(tmp_path: Path, name: str) -> None:
    task = WriteTask()
    done = finish(tmp_path, task)
    (tmp_path / done.folder / name).unlink()
    assert done_of(tmp_path, task) is None
    assert find_done(tmp_path, task, done.folder, without=("other",)) is None
    assert find_done(tmp_path, task, done.folder, without=("other", name)) == done
    assert finish(tmp_path, task) == done


@dataclass(frozen=True)
class InputTask(Task):
    """A task whose input may change unnoticed."""

    phase: ClassVar[str] = "input"
    result_type: ClassVar[Any] = str

    path: str
    names_it: bool = True

    def run(self, work: Path, folder: Path) -> str:
        text = Path(self.path).read_text()
        (folder / "big").write_text(text.upper())
        (folder / "small").write_text(text[:1])
        return text

    def changed_inputs(self, before: str, now: str) -> list[str]:
        return [self.path] if self.names_it and before != now else []


@pytest.mark.parametrize("names_it", [True, False])
def test_what_was_deleted_and_comes_back_otherwise_is_an_error(tmp_path: Path, names_it: bool) -> None:
    path = tmp_path / "input.txt"
    path.write_text("one")
    task = InputTask(str(path), names_it)
    done = finish(tmp_path, task)
    forget(tmp_path, [done.folder], ("big",))
    assert finish(tmp_path, task) == done
    forget(tmp_path, [done.folder], ("big",))
    path.write_text("two")
    cure = r"1 input changed .*input\.txt\); give --rehash" if names_it else rf"{done.folder}.*; delete that folder"
    with pytest.raises(CorpusError, match=cure):
        complete(tmp_path, task, done.folder)
    assert find_done(tmp_path, task, done.folder, without=("big",)) == done
    path.write_text("ONE")
    (tmp_path / done.folder / "small").unlink()
    with pytest.raises(CorpusError, match=cure):
        complete(tmp_path, task, done.folder)
    assert not list(tmp_path.glob("*/*.partial"))
    path.write_text("one")
    assert finish(tmp_path, task) == done


@pytest.mark.parametrize("host", ["node", "node1.cluster.org", "a-7.b-2.org-3"])
def test_what_ended_workers_left_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Of a process that nobody has waited for yet, too; not what one that runs is at work on."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    with subprocess.Popen(["true"]) as ended, subprocess.Popen(["sleep", "60"]) as running:
        while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        for pid in (ended.pid, running.pid):
            (tmp_path / "phase" / f"key.{host}-{pid}-0a.partial").mkdir(parents=True)
        clear_partial(tmp_path)
        assert [path.name.split("-")[-2] for path in tmp_path.glob("*/*")] == [str(running.pid)]
        running.kill()


def test_an_earlier_process_of_the_same_number_is_in_nobodys_way(tmp_path: Path) -> None:
    """In a container, processes have small numbers, and the same after each start."""
    task = WriteTask()
    partial = Path(f"{tmp_path / task_folder(task)}{own_suffix()}")
    tokens = iter(range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partial_folders, "_token", lambda pid: f"{next(tokens):x}")
        left = Path(f"{tmp_path / task_folder(task)}{own_suffix()}")
        left.mkdir(parents=True)
        finish(tmp_path, task)
    partial.mkdir()
    clear_partial(tmp_path)
    assert not left.exists()
    assert partial.exists()


@pytest.mark.parametrize("content", [b"", b"x" * 499, b"x" * 501])
def test_a_file_of_another_size_makes_a_task_unfinished(tmp_path: Path, content: bytes) -> None:
    task = WriteTask()
    done = finish(tmp_path, task)
    before = files(tmp_path / done.folder)
    (tmp_path / done.folder / "deep/0.txt").write_bytes(content)
    assert done_of(tmp_path, task) is None
    assert finish(tmp_path, task) == done
    assert files(tmp_path / done.folder) == before


@pytest.mark.parametrize("content", [b"", b"{", b"[[], 3]", b"\xff", b"[[], {}]"])
def test_a_damaged_record_makes_a_task_unfinished(tmp_path: Path, content: bytes) -> None:
    task = WriteTask()
    done = finish(tmp_path, task)
    (tmp_path / done.folder / "task.json").write_bytes(content)
    assert done_of(tmp_path, task) is None
    assert finish(tmp_path, task) == done


def test_a_flipped_bit_anywhere_in_a_record_makes_a_task_unfinished(tmp_path: Path) -> None:
    task = WriteTask(number=1)
    path = tmp_path / finish(tmp_path, task).folder / "task.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        assert done_of(tmp_path, task) is None
    path.write_bytes(whole)
    assert done_of(tmp_path, task) is not None


def test_what_is_forgotten_is_gone_and_nothing_else(tmp_path: Path) -> None:
    one, two = WriteTask(), WriteTask(number=1)
    done = finish(tmp_path, one)
    finish(tmp_path, two)
    before = files(tmp_path / done.folder)
    for _ in range(2):
        forget(tmp_path, [done.folder], ("empty", "not there"))
    assert set(before) - set(files(tmp_path / done.folder)) == {"empty"}
    assert done_of(tmp_path, one) is None
    assert find_done(tmp_path, one, done.folder, without=("empty",)) == done
    assert done_of(tmp_path, two) is not None
