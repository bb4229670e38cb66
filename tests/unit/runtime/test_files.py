import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.files import append_json_line, atomic_file, read_json_lines, write_json, write_text
from pipeline.runtime.journal import Journal
from tests.unit.runtime.disk import full_at


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as file:
        file.write(b"one")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"one"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def write_half() -> None:
        with atomic_file(tmp_path / "a") as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write_half()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_rename_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "inside").touch()
    with pytest.raises(OSError, match="directory"), atomic_file(tmp_path / "a") as file:
        file.write(b"new")
    assert names(tmp_path) == ["a"]


def test_content_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (events.append("sync"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("rename"), replace(*paths)))
    write_text(tmp_path / "a", "é")
    assert events == ["sync", "rename", "sync"]
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9"


def test_json_is_sorted_and_ends_with_a_line_break(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"b": 1, "a": "é"})
    assert (tmp_path / "a").read_text() == '{\n "a": "é",\n "b": 1\n}\n'


def test_lines_are_appended(tmp_path: Path) -> None:
    assert read_json_lines(tmp_path / "log") == []
    for value in ({"a": 1}, "é\n", None):
        append_json_line(tmp_path / "log", value)
    assert read_json_lines(tmp_path / "log") == [{"a": 1}, "é\n", None]


@given(st.data())
def test_a_line_torn_anywhere_costs_that_line_only(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("torn") / "log"
    values = [{"event": "start", "text": "ä\u2028"}, {"event": "save", "step": 12}, {"event": "end"}]
    for value in values:
        append_json_line(path, value)
    content = path.read_bytes()
    begin = len(content) - len(json.dumps(values[-1])) - 1
    path.write_bytes(content[: data.draw(st.integers(begin, len(content) - 2))])
    append_json_line(path, {"event": "resume"})
    assert read_json_lines(path) == [*values[:2], {"event": "resume"}]


def test_the_journal_keeps_events_in_order(tmp_path: Path) -> None:
    Journal(tmp_path).write("start", step=0, world_size=2)
    Journal(tmp_path).write("save", step=10)
    events = Journal(tmp_path).read()
    assert [(event["event"], event["step"]) for event in events] == [("start", 0), ("save", 10)]
    assert 0 < events[0]["time"] <= events[1]["time"]


@given(st.integers(0, 60))
def test_an_event_for_which_there_is_no_room_is_not_there_at_all(
    tmp_path_factory: pytest.TempPathFactory, room: int
) -> None:
    """A journal that said what nobody was told it says would be worse than none."""
    path = tmp_path_factory.mktemp("full") / "log"
    append_json_line(path, {"event": "start"})
    content = path.read_bytes()
    line = json.dumps({"event": "save", "step": 12}) + "\n"
    with full_at(len(content) + room):
        if room < len(line):
            with pytest.raises(OSError, match="File too large"):
                append_json_line(path, {"event": "save", "step": 12})
            assert path.read_bytes() == content
        else:
            append_json_line(path, {"event": "save", "step": 12})
            assert path.read_bytes() == content + line.encode()
