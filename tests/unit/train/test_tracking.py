"""Rows reach the file whatever the disk does, and W&B whatever training and W&B do. Real W&B: tests/faults."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.files import append_json_line, read_json_lines
from pipeline.train.tracking import following
from pipeline.train.tracking.following import Following, NotWrittenError, mark_path, read_mark
from pipeline.train.tracking.tracker import Composite, JsonLines, metrics_path
from pipeline.train.tracking.wandb import run_id
from tests.unit.runtime.disk import full_at


def write(path: Path, steps: range, when: float = 1.5) -> None:
    """Rows of training; every third step also has one of evaluation."""
    rows = [{"step": step, "time": when, f"{kind}/loss": step / 2}
            for step in steps for kind in ("train", "validation") if kind == "train" or step % 3 == 0]  # fmt: skip
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def keys(rows: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(row["step"], key) for row in rows for key in row if key.endswith("loss")]


class Story:
    """A run in sessions, and what W&B got of it."""

    def __init__(self, folder: Path) -> None:
        (folder / "wandb").mkdir()
        self.folder, self.path = folder, metrics_path(folder)
        self.wandb_bytes = itertools.count().__next__
        self.last = 0
        self.got: list[dict[str, Any]] = []
        self.unsure = 0

    def session(self, back: int, steps: int, sure: int, unsure: int) -> None:
        """Resume some steps back and go on; W&B gets so many rows and notes them, then gets some more and is killed."""
        first = max(0, self.last - back)
        write(self.path, range(first + 1, first + steps + 1))
        self.last = first + steps
        rows = Following(self.folder, self.wandb_bytes)
        taken = itertools.islice(rows.new(), sure + unsure + 1)
        for number, row in enumerate(taken):
            if number == sure:
                rows.close()
            if number == sure + unsure:
                return
            self.got.append(row)
            self.unsure += number >= sure
        rows.close()


sessions = st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(0, 14), st.integers(0, 2))


@given(st.lists(sessions, min_size=1, max_size=5))
def test_wandb_gets_each_row_once_and_twice_only_what_it_got_just_before_a_kill(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[int, int, int, int]]
) -> None:
    run = Story(tmp_path_factory.mktemp("run"))
    for session in story:
        run.session(*session)
    run.session(0, 1, 1000, 0)
    got = keys(run.got)
    assert set(got) == set(keys(read_json_lines(run.path)))
    assert len(got) - len(set(got)) <= run.unsure
    if not run.unsure:
        assert got == list(dict.fromkeys(keys(read_json_lines(run.path))))


def test_a_relay_that_outlives_its_session_passes_over_what_the_next_one_does_again(tmp_path: Path) -> None:
    write(metrics_path(tmp_path), range(1, 5))
    late = Following(tmp_path, itertools.count().__next__)
    assert keys(list(late.new()))[-1] == (4, "train/loss")
    write(metrics_path(tmp_path), range(3, 6))
    assert keys(list(late.new())) == [(5, "train/loss")]


def test_steps_after_a_rollback_are_others_and_are_done_again_as_others(tmp_path: Path) -> None:
    rows = Following(tmp_path, itertools.count().__next__)
    write(metrics_path(tmp_path), range(1, 6), when=1.5)
    assert keys(list(rows.new()))[-1] == (5, "train/loss")
    append_json_line(tmp_path / "journal.jsonl", {"event": "rollback", "step": 3, "time": 2.0})
    write(metrics_path(tmp_path), range(4, 6), when=2.5)
    assert keys(list(rows.new())) == [(4, "train/loss"), (5, "train/loss")]
    append_json_line(tmp_path / "journal.jsonl", {"event": "resume", "step": 3, "time": 3.0})
    write(metrics_path(tmp_path), range(4, 8), when=3.5)
    (tmp_path / "wandb").mkdir()
    rows.close()
    assert keys(list(rows.new())) == [(6, "train/loss"), (6, "validation/loss"), (7, "train/loss")]
    assert keys(list(Following(tmp_path, itertools.count().__next__).new())) == [
        (6, "train/loss"),
        (6, "validation/loss"),
        (7, "train/loss"),
    ]


def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    path = metrics_path(tmp_path)
    rows = Following(tmp_path, itertools.count().__next__)
    assert list(rows.new()) == []
    path.write_bytes(b'{"step": 1, "time": 2}\n{"step": 2, "ti\n[3]\n{"step": 4, "time": 2}\n{"step": 5')
    assert [row["step"] for row in rows.new()] == [1, 4]
    with path.open("ab") as file:
        file.write(b', "time": 2}\n')
    assert [row["step"] for row in rows.new()] == [5]


class Clock:
    """Time for the mark, and the file of a W&B that writes when it is told to."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.size = 0.0, 0
        monkeypatch.setattr(following.time, "monotonic", lambda: self.now * following.FLUSH_SECONDS)
        self.path, self.mark = metrics_path(folder), mark_path(folder)
        self.mark.parent.mkdir()
        self.rows = Following(folder, lambda: self.size)

    def hand_over(self, step: int) -> int:
        write(self.path, range(step, step + 1))
        assert list(self.rows.new())
        return self.path.stat().st_size

    def look(self, now: float, size: int) -> None:
        """Some flushes later, with a W&B's file that long."""
        self.now, self.size = now, size
        self.rows.remember()


def test_the_mark_waits_until_wandb_has_written_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(tmp_path, monkeypatch)
    first = clock.hand_over(1)
    clock.look(0.5, size=10)
    clock.look(1.5, size=10)
    assert read_mark(clock.mark) == 0
    clock.look(1.6, size=20)
    assert read_mark(clock.mark) == first
    second = clock.hand_over(2)
    clock.size = 21
    clock.rows.close()
    assert read_mark(clock.mark) == second


def test_rows_that_wandb_does_not_write_are_not_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(tmp_path, monkeypatch)
    clock.hand_over(1)
    clock.look(0.1, size=3)  # a part of them: the disk was full
    clock.hand_over(2)
    clock.look(1.0, size=3)
    with pytest.raises(NotWrittenError):
        clock.look(1.2, size=3)
    with pytest.raises(NotWrittenError):
        clock.rows.close()
    assert read_mark(clock.mark) == 0


@pytest.mark.parametrize("content", ["", "{}", '{"bytes": 1', '{"bytes": null}', "[]"])
def test_a_damaged_mark_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "mark").write_text(content)
    assert read_mark(tmp_path / "mark") == 0


def test_rows_wait_for_room_and_keep_their_times(tmp_path: Path) -> None:
    tracker = Composite([JsonLines(tmp_path)])
    with full_at(10):
        tracker.log(1, {"train/loss": 2.5})
        tracker.log(2, {"train/loss": None})
    assert not read_json_lines(metrics_path(tmp_path))
    tracker.finish(0)
    first, second = read_json_lines(metrics_path(tmp_path))
    assert (first["step"], first["train/loss"]) == (1, 2.5)
    assert (second["step"], second["train/loss"]) == (2, None)
    assert 0 < first["time"] <= second["time"]


def test_the_id_of_a_run_is_made_once(tmp_path: Path) -> None:
    assert run_id(tmp_path) == run_id(tmp_path)
    assert run_id(tmp_path).isalnum()
    (tmp_path / "other").mkdir()
    assert run_id(tmp_path / "other") != run_id(tmp_path)
