import os
from pathlib import Path

import pytest

from data_prep.tasks.partial import clear_partial, own_suffix
from data_prep.tasks.store import complete, task_folder
from tests.unit.data_prep.write_task import WriteTask, done_of, files, finish
from tests.unit.killing import killed_at


@pytest.mark.parametrize("damaged", [False, True], ids=["nothing before", "an unfinished one before"])
def test_killed_at_any_moment_a_task_is_whole_or_absent(tmp_path: Path, damaged: bool) -> None:
    task = WriteTask()
    expected = finish(tmp_path / "expected", task)
    whole = files(tmp_path / "expected" / expected.folder)
    moment, states = 0, set()
    while True:
        work = tmp_path / str(moment)
        if damaged:
            finish(work, task)
            (work / expected.folder / "deep/1.txt").unlink()
        was_killed = killed_at(moment, complete, work, task, expected.folder)
        done = done_of(work, task)
        assert done in (None, expected)
        assert done is None or files(work / done.folder) == whole
        clear_partial(work)
        assert not list(work.glob("*/*.partial"))
        assert finish(work, task) == expected
        assert files(work) == {f"{expected.folder}/{name}": content for name, content in whole.items()}
        states.add((was_killed, done is not None))
        if not was_killed:
            break
        moment += 1
    assert moment > 10
    assert states >= {(True, False), (True, True), (False, True)}


def test_only_what_killed_tasks_left_is_cleared(tmp_path: Path) -> None:
    done = finish(tmp_path, WriteTask())
    before = files(tmp_path)
    task = WriteTask(number=1)
    assert killed_at(8, complete, tmp_path, task, task_folder(task))
    assert files(tmp_path) != before
    clear_partial(tmp_path)
    assert files(tmp_path) == before
    assert done_of(tmp_path, WriteTask()) == done


def test_the_folder_of_a_process_at_work_is_left_alone(tmp_path: Path) -> None:
    ours, others = tmp_path / "read" / f"a{own_suffix()}", tmp_path / "read" / "b.elsewhere-7.partial"
    old = tmp_path / "read" / "c.elsewhere-7.partial"
    for folder in (ours, others, old):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    clear_partial(tmp_path)
    assert sorted(path.name for path in (tmp_path / "read").iterdir()) == sorted([ours.name, others.name])


def test_a_finished_task_is_never_taken_away_from_its_readers(tmp_path: Path) -> None:
    task = WriteTask()
    folder = task_folder(task)
    complete(tmp_path, task, folder)
    files = {path: path.stat().st_ino for path in (tmp_path / folder).rglob("*")}
    complete(tmp_path, task, folder)
    assert {path: path.stat().st_ino for path in (tmp_path / folder).rglob("*")} == files
