from pathlib import Path

import pytest

from data_prep.tasks.corpora import begin_record, read_record, remove_records, remove_unused, write_record
from tests.unit.data_prep.write_task import OtherPhase, WriteTask, done_of, finish

TASKS = [WriteTask(), WriteTask(number=1), OtherPhase()]


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    (tmp_path / "mine").mkdir()
    (tmp_path / "other").mkdir()
    return [finish(tmp_path / "work", task).folder for task in TASKS]


def left(tmp_path: Path) -> list[bool]:
    return [done_of(tmp_path / "work", task) is not None for task in TASKS]


def test_what_no_corpus_was_made_by_goes(tmp_path: Path, folders: list[str]) -> None:
    (tmp_path / "work" / "write" / "notes").mkdir()
    write_record(tmp_path / "work", tmp_path / "mine", folders[:1])
    remove_unused(tmp_path / "work", tmp_path / "mine")
    assert left(tmp_path) == [True, False, False]
    assert (tmp_path / "work" / "write" / "notes").exists()


def test_what_another_corpus_was_made_by_stays_as_long_as_that_is_there(tmp_path: Path, folders: list[str]) -> None:
    write_record(tmp_path / "work", tmp_path / "mine", folders[:1])
    write_record(tmp_path / "work", tmp_path / "other", folders[1:2], is_settled=True)
    remove_unused(tmp_path / "work", tmp_path / "mine")
    assert left(tmp_path) == [True, True, False]
    (tmp_path / "other").rmdir()
    remove_unused(tmp_path / "work", tmp_path / "mine")
    assert left(tmp_path) == [True, False, False]


@pytest.mark.parametrize("damaged", [False, True])
def test_while_another_corpus_is_being_made_nothing_goes(tmp_path: Path, folders: list[str], damaged: bool) -> None:
    write_record(tmp_path / "work", tmp_path / "other", folders[1:2], is_settled=damaged)
    if damaged:
        next((tmp_path / "work" / "corpora").iterdir()).write_text("{")
    write_record(tmp_path / "work", tmp_path / "mine", folders[:1])
    remove_unused(tmp_path / "work", tmp_path / "mine")
    assert left(tmp_path) == [True, True, True]


def test_what_a_corpus_was_made_by_is_known_while_it_is_made_again(tmp_path: Path) -> None:
    assert begin_record(tmp_path, tmp_path / "mine") == set()
    write_record(tmp_path, tmp_path / "mine", ["a/1"], is_settled=True)
    for _ in range(2):
        assert begin_record(tmp_path, tmp_path / "mine") == {"a/1"}
        found = read_record(tmp_path, tmp_path / "mine")
        assert found is not None
        assert not found.is_settled


def test_a_record_comes_back_until_it_is_removed(tmp_path: Path) -> None:
    assert read_record(tmp_path, tmp_path / "mine") is None
    write_record(tmp_path, tmp_path / "mine", ["b/1", "a/2"])
    found = read_record(tmp_path, tmp_path / "mine")
    assert found is not None
    assert (found.output, found.tasks, found.is_settled) == (str(tmp_path / "mine"), {"a/2", "b/1"}, False)
    assert read_record(tmp_path, tmp_path / "other") is None
    remove_records(tmp_path)
    assert read_record(tmp_path, tmp_path / "mine") is None
    assert list(tmp_path.iterdir()) == []
