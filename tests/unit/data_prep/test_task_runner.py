import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import ClassVar

import pytest
from rich.console import Console

from data_prep.executors.local import LocalProcesses
from data_prep.tasks import store
from data_prep.tasks.runner import Item, Runner
from data_prep.tasks.store import _checksum as checksum
from data_prep.tasks.store import forget, task_folder
from pipeline.errors import CorpusError
from tests.unit.data_prep.reads import counts, runner_for
from tests.unit.data_prep.write_task import Failing, WriteTask, done_of, files, finish


def test_only_unfinished_tasks_run_and_they_are_counted(tmp_path: Path) -> None:
    tasks = [WriteTask(number=number) for number in range(5)]
    expected = {number: finish(tmp_path, tasks[number]) for number in (1, 3)}
    stamps = {done.folder: (tmp_path / done.folder).stat().st_ino for done in expected.values()}
    runner = runner_for(tmp_path)
    assert runner.has_unfinished(tasks)
    done = runner.run(tasks)
    assert [one.result.big - 2**127 for one in done] == [0, 1, 2, 3, 4]
    assert {folder: (tmp_path / folder).stat().st_ino for folder in stamps} == stamps
    assert counts(runner) == {"write": (5, 3)}
    assert not runner.has_unfinished(tasks)
    assert runner_for(tmp_path).run(tasks) == done


def test_a_phase_may_come_in_parts_and_again(tmp_path: Path) -> None:
    runner = runner_for(tmp_path)
    first, second = [WriteTask(number=number) for number in range(3)], [WriteTask(number=3)]
    done = runner.run(first)
    runner.run(second)
    assert counts(runner) == {"write": (4, 4)}
    again = runner_for(tmp_path)
    forget(tmp_path, [done[0].folder], ("empty",))
    assert again.run(first, without=("empty",)) == done
    again.run(second)
    assert counts(again) == {"write": (4, 0)}
    assert again.has_unfinished(first)
    assert again.run(first) == done
    assert counts(again) == {"write": (4, 1)}
    assert set(again.seconds) == {"write"}
    assert runner.run([]) == []


@dataclass(frozen=True)
class SelfChecking(WriteTask):
    self_checking: ClassVar[tuple[str, ...]] = ("0.txt",)


def flip_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-7] + bytes([content[-7] ^ 16]) + content[-6:])


@pytest.mark.parametrize("first_asked", ["run", "has_unfinished"])
def test_what_was_damaged_since_an_earlier_start_is_done_again(tmp_path: Path, first_asked: str) -> None:
    tasks = [WriteTask(number=number) for number in range(3)]
    done = [finish(tmp_path, task) for task in tasks]
    before = files(tmp_path)
    flip_bit(tmp_path / done[1].folder / "deep/1.txt")
    told = io.StringIO()
    runner = Runner(tmp_path, LocalProcesses(1), Console(file=told, width=500))
    if first_asked == "has_unfinished":
        assert runner.has_unfinished(tasks)
    assert runner.run(tasks) == done
    assert files(tmp_path) == before
    assert runner.ran == {"write": {done[1].folder}}
    assert f"work ({tmp_path}): {done[1].folder}/deep/1.txt is damaged; its task is done again\n" in told.getvalue()


def test_only_what_does_not_check_itself_is_read_and_that_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = SelfChecking()
    done = finish(tmp_path, task)
    flip_bit(tmp_path / done.folder / "deep/0.txt")
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return checksum(path)

    monkeypatch.setattr(store, "_checksum", counted)
    runner = runner_for(tmp_path)
    for _ in range(2):
        assert runner.run([task]) == [done]
        assert not runner.has_unfinished([task])
    assert sorted(read) == ["1.txt", "empty"]
    assert runner.run([WriteTask(number=7)])[0].result.big == 2**127 + 7
    assert sorted(read) == ["0.txt", "1.txt", "1.txt", "empty", "empty"]  # what has just run is not read again


class LateExecutor:
    """Tasks whose folders appear only after a while, as those of other machines on NFS do."""

    workers = 1

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def map(self, function: Callable[[Item], None], items: Sequence[Item], advance: Callable[[], None]) -> None:
        for item in items:
            Timer(self._seconds, function, [item]).start()


def test_what_shows_late_is_waited_for(tmp_path: Path) -> None:
    tasks = [WriteTask(number=number) for number in range(3)]
    runner = Runner(tmp_path, LateExecutor(0.7), Console(file=io.StringIO()))
    assert [one.folder for one in runner.run(tasks)] == [task_folder(task) for task in tasks]


def test_what_never_shows_is_an_error_with_a_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.tasks.runner.PATIENCE_SECONDS", 0.1)
    runner = Runner(tmp_path, LateExecutor(2.0), Console(file=io.StringIO()))
    task = WriteTask()
    sentence = rf"^work \({tmp_path}\): .* {task_folder(task)} is missing .* that all workers share; then give the same"
    with pytest.raises(CorpusError, match=sentence):
        runner.run([task])


def test_tasks_before_a_failing_one_stay_finished(tmp_path: Path) -> None:
    tasks = [WriteTask(), Failing(error=CorpusError("bad input")), WriteTask(number=1)]
    with pytest.raises(CorpusError, match=r"^bad input$"):
        runner_for(tmp_path).run(tasks)
    assert done_of(tmp_path, tasks[0]) is not None
    assert done_of(tmp_path, tasks[2]) is None
