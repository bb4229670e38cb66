"""Copies of checkpoints on another file system, which is spoken to as an object store is; S3 has tests of its own."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.checkpoints import Checkpoints
from pipeline.engine.checkpoint import copies as copies_module
from pipeline.engine.checkpoint.commit import (
    COMMIT_NAME,
    Commit,
    FileRecord,
    begin,
    commit,
    committed_steps,
    read_commit,
    step_name,
)
from pipeline.engine.checkpoint.copies import Copies
from pipeline.engine.checkpoint.fetching import copied, fetch_checkpoint
from pipeline.engine.checkpoint.retention import delete_old
from pipeline.engine.checkpoint.sending import send_checkpoint
from pipeline.engine.checkpoint.upload import Uploader
from pipeline.errors import CheckpointError

Events = list[tuple[str, dict[str, Any]]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies_module, "FIRST_PAUSE_SECONDS", 0.001)


def write_checkpoint(checkpoints: Path, step: int, mark: str = "a", branch: int = 0, run: str = "ours") -> Path:
    """One whose files have the same sizes whatever its mark."""
    contents = {"index.json": b"{}", **{f"state/rank-{rank:05d}": (mark * 40).encode() for rank in range(5)}}
    partial = begin(checkpoints, step)
    (partial / "state").mkdir()
    for name, content in contents.items():
        (partial / name).write_bytes(content)
    files = (FileRecord(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items())
    return commit(partial, Commit(step, 1, branch, {"mark": mark}, {"run": run, "share": 0.1}, tuple(files)))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Place:
    """A run folder, and a folder for its copies."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.checkpoints, self.there = folder, folder / "run/checkpoints", folder / "there"
        self.url = f"file://{self.there}"
        self.events: Events = []

    def uploader(self, **changes: Any) -> Uploader:
        def tell(event: str, **details: Any) -> None:
            self.events.append((event, details))

        values = {"tell": tell, "is_ours": lambda record: record.state["run"] == "ours", **changes}
        return Uploader(self.checkpoints, self.url, **values)

    def send(self, *steps: int) -> bool:
        uploader = self.uploader()
        for step in steps:
            uploader.offer(step)
        return uploader.finish(60)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_comes_back_is_what_was_sent(place: Place) -> None:
    here = write_checkpoint(place.checkpoints, 7)
    run_files = {"config.yaml": b"seed: 1\n", "tokenizer/tokenizer.model": b"pieces", "journal.jsonl": b"{}\n"}
    for name, content in {**run_files, "metrics.jsonl": b"{}\n"}.items():
        (place.folder / "run" / name).parent.mkdir(exist_ok=True)
        (place.folder / "run" / name).write_bytes(content)
    assert place.send(7)
    assert place.there.joinpath(step_name(7), COMMIT_NAME).is_file()
    [(event, details)] = place.events
    assert (event, details["step"], details["bytes"]) == ("upload", 7, sum(map(len, contents(here).values())))
    assert copied(place.url) == [read_commit(here)]
    fetched = fetch_checkpoint(place.url, place.folder / "new/checkpoints")
    assert contents(fetched) == contents(here)
    assert contents(place.folder / "new") == {
        **run_files, **{f"checkpoints/{step_name(7)}/{name}": content for name, content in contents(here).items()}
    }  # fmt: skip


def test_a_copy_that_is_there_is_not_sent_again(place: Place) -> None:
    write_checkpoint(place.checkpoints, 7)
    assert place.send(7)
    times = {path: path.stat().st_mtime_ns for path in (place.there / step_name(7)).rglob("*")}
    place.events.clear()
    assert place.send(7)
    assert place.events == []
    assert {path: path.stat().st_mtime_ns for path in (place.there / step_name(7)).rglob("*")} == times


def test_a_half_sent_copy_is_completed_and_never_mixed_with_another_branch(place: Place) -> None:
    here = write_checkpoint(place.checkpoints, 7, "a")
    (here / "state/rank-00003").write_bytes(b"short")
    assert not place.send(7)
    [(event, details)] = place.events
    assert event == "upload_failed"
    assert details["reason"] == "step-00000007: state/rank-00003 has 5 bytes, should have 40"
    assert contents(place.there / step_name(7))["state/rank-00000"] == b"a" * 40
    assert copied(place.url) == []
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        fetch_checkpoint(place.url, place.folder / "new")
    for mark, branch in (("b", 1), ("c", 2)):  # over a half and over a whole one
        here = write_checkpoint(place.checkpoints, 7, mark, branch)
        assert place.send(7)
        assert contents(place.there / step_name(7)) == contents(here)
    whole = contents(here)
    (write_checkpoint(place.checkpoints, 7, "d", branch=3) / "state/rank-00003").write_bytes(b"short")
    assert not place.send(7)
    assert copied(place.url) == []  # neither the one before, of which some is gone
    here = write_checkpoint(place.checkpoints, 7, "c", branch=2)
    assert place.send(7)
    assert contents(here).keys() == contents(place.there / step_name(7)).keys() == whole.keys()
    (place.there / step_name(7) / COMMIT_NAME).rename(place.there / step_name(7) / "SENDING.json")
    (place.there / step_name(7) / "state/rank-00002").unlink()
    (place.there / step_name(7) / "state/rank-00001").write_bytes(b"d" * 40)
    assert send_checkpoint(Copies(place.url), here) < 41 + len((here / COMMIT_NAME).read_bytes())  # only what lacked
    assert contents(place.there / step_name(7))["state/rank-00001"] == b"d" * 40
    with pytest.raises(CheckpointError, match=r"after 8 attempts \(state/rank-00001 has other bytes"):
        fetch_checkpoint(place.url, place.folder / "new")
    assert list((place.folder / "new").iterdir()) == []


def test_a_step_that_was_copied_before_a_rollback_is_not_taken_for_the_one_after(place: Place) -> None:
    write_checkpoint(place.checkpoints, 7, "a")
    told = threading.Event()
    uploader = place.uploader(tell=lambda event, **details: told.set())
    uploader.offer(7)
    assert told.wait(60)
    (write_checkpoint(place.checkpoints, 7, "b", branch=1) / "state/rank-00003").write_bytes(b"short")
    uploader.offer(7)
    assert not uploader.finish(60)


def test_the_copies_of_another_run_are_left_alone(place: Place) -> None:
    theirs = write_checkpoint(place.folder / "other/checkpoints", 7, run="theirs")
    send_checkpoint(Copies(place.url), theirs)
    write_checkpoint(place.checkpoints, 7, "b")
    before = contents(place.there)
    assert not place.send(7)
    assert "holds checkpoints of another run" in place.events[0][1]["reason"]
    assert contents(place.there) == before


def test_a_failure_is_told_and_the_next_checkpoint_is_tried(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    write_checkpoint(place.checkpoints, 7)
    write_checkpoint(place.checkpoints, 8)
    place.there.write_text("in the way of a folder")
    failed = threading.Event()
    uploader = place.uploader(tell=lambda event, **details: failed.set())
    uploader.offer(7)
    assert failed.wait(60)
    assert "step 7  has no copy: file://" in caplog.text
    place.there.unlink()
    uploader.offer(8)
    assert uploader.finish(60)
    assert [record.step for record in copied(place.url)] == [8]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["commit", "sent"]), max_size=12), st.integers(1, 2))
def test_whatever_the_pace_the_newest_is_sent_and_none_goes_that_is_needed(
    tmp_path_factory: pytest.TempPathFactory, pace: list[str], keep_last: int
) -> None:
    """Checkpoints come and old ones are deleted while each upload ends only when the test says so."""
    place = Place(tmp_path_factory.mktemp("pace"))
    told, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def tell(event: str, **details: Any) -> None:
        place.events.append((event, details))
        told.release()
        go_on.acquire()

    uploader = place.uploader(tell=tell)
    step, sending, waiting, expected = 0, None, None, list[int]()
    for what in [*pace, "sent", "sent"]:
        if what == "commit":
            step += 1
            write_checkpoint(place.checkpoints, step)
            delete_old(place.checkpoints, Checkpoints(keep_last=keep_last), {}, uploader.in_use())
            uploader.offer(step)
            waiting = step
        elif sending is not None:
            go_on.release()
            sending = None
        if sending is None and waiting is not None:
            assert told.acquire(timeout=60)
            sending, waiting = waiting, None
            expected.append(sending)
        needed = {one for one in (sending, waiting) if one is not None}
        assert needed <= uploader.in_use()  # that which was told is let go a moment later
        assert needed <= set(committed_steps(place.checkpoints))
    assert uploader.finish(60)
    assert [(event, details["step"]) for event, details in place.events] == [("upload", one) for one in expected]
    assert expected[-1:] == [step] * bool(step)
    assert [record.step for record in copied(place.url)] == expected


def test_the_newest_is_the_last_of_the_last_branch(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    for step, branch in ((20, 0), (30, 0), (25, 1), (22, 1)):
        send_checkpoint(Copies(place.url), write_checkpoint(place.checkpoints, step, branch=branch))
    (place.there / step_name(90)).mkdir()
    (place.there / step_name(90) / COMMIT_NAME).write_bytes(b"{")
    assert [record.step for record in copied(place.url)] == [20, 30, 22, 25]
    assert "copy left out: step-00000090: COMMIT.json is damaged" in caplog.text
    assert fetch_checkpoint(place.url, place.folder / "new").name == step_name(25)
    assert fetch_checkpoint(place.url, place.folder / "new", 30).name == step_name(30)
    assert committed_steps(place.folder / "new") == [25, 30]
    with pytest.raises(CheckpointError, match="has no checkpoint of step 31"):
        fetch_checkpoint(place.url, place.folder / "new", 31)


def test_what_is_here_is_not_fetched_unless_it_is_damaged(place: Place) -> None:
    here = write_checkpoint(place.checkpoints, 7)
    assert place.send(7)
    whole = contents(here)
    (place.there / step_name(7) / "state/rank-00001").unlink()
    assert fetch_checkpoint(place.url, place.checkpoints) == here
    (place.there / step_name(7) / "state/rank-00001").write_bytes(whole["state/rank-00001"])
    (here / "state/rank-00001").write_bytes(b"b" * 40)
    assert contents(fetch_checkpoint(place.url, place.checkpoints)) == whole
    assert (place.checkpoints / "step-00000007.corrupt/REASON.txt").is_file()
    write_checkpoint(place.checkpoints, 7, "b", branch=1)
    with pytest.raises(CheckpointError, match=r"is another checkpoint than the copy \(branch 1, there 0\)"):
        fetch_checkpoint(place.url, place.checkpoints)


@pytest.mark.parametrize("name", ["../../outside", "/{folder}/outside", "state/../../../outside"])
def test_nothing_is_written_outside_of_the_folder(place: Place, name: str) -> None:
    name = name.format(folder=str(place.folder).lstrip("/"))
    here = write_checkpoint(place.checkpoints, 7)
    record = json.loads((here / COMMIT_NAME).read_text())
    record.pop("checksum")
    record["files"][1]["name"] = name
    checksum = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    Copies(place.url).write(f"{step_name(7)}/{COMMIT_NAME}", json.dumps({**record, "checksum": checksum}).encode())
    assert copied(place.url) == []
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        fetch_checkpoint(place.url, place.folder / "run/new")
    assert not list(place.folder.rglob("outside"))
