import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.config.checkpoints import Checkpoints
from pipeline.engine.checkpoint.commit import (
    COMMIT_NAME,
    FORMAT_VERSION,
    Commit,
    FileRecord,
    begin,
    commit,
    committed_steps,
    faults,
    file_fault,
    read_commit,
    set_aside,
    step_name,
    unlisted,
)
from pipeline.engine.checkpoint.retention import delete_old
from pipeline.errors import CheckpointError, FormatError, UnreadableError
from tests.unit.killing import killed_at

CONTENTS = {"state/rank_0.pt": b"weights of rank 0", "state/rank_1.pt": b"weights of rank 1", "readme": b""}


def write_checkpoint(checkpoints: Path, step: int, contents: dict[str, bytes] = CONTENTS) -> Path:
    partial = begin(checkpoints, step)
    records = []
    for name, content in contents.items():
        (partial / name).parent.mkdir(exist_ok=True)
        (partial / name).write_bytes(content)
        records.append(FileRecord(name, len(content), hashlib.sha256(content).hexdigest()))
    return commit(partial, Commit(step, 2, 0, {}, {"tokens": step * 10}, tuple(records)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoints", 7)


def test_what_is_committed_is_read(checkpoint: Path) -> None:
    found = read_commit(checkpoint)
    assert (found.step, found.world_size, found.state) == (7, 2, {"tokens": 70})
    assert [file.name for file in found.files] == list(CONTENTS)
    assert found.bytes == sum(map(len, CONTENTS.values()))
    assert faults(checkpoint, found.files) == []
    assert committed_steps(checkpoint.parent) == [7]
    assert names(checkpoint.parent) == ["step-00000007"]


@pytest.mark.parametrize("name", [name for name, content in CONTENTS.items() if content])
@pytest.mark.parametrize("place", [0, 8, -1])
def test_a_flipped_bit_is_found(checkpoint: Path, name: str, place: int) -> None:
    content = bytearray(CONTENTS[name])
    content[place] ^= 1
    (checkpoint / name).write_bytes(content)
    assert faults(checkpoint, read_commit(checkpoint).files) == [f"{name} has other bytes than were written"]


def test_a_cut_a_longer_and_a_missing_file_are_found(checkpoint: Path) -> None:
    (checkpoint / "state/rank_0.pt").write_bytes(b"weights")
    (checkpoint / "state/rank_1.pt").unlink()
    (checkpoint / "readme").write_bytes(b"x")
    assert faults(checkpoint, read_commit(checkpoint).files) == [
        "state/rank_0.pt has 7 bytes, should have 17",
        "state/rank_1.pt cannot be read: No such file or directory",
        "readme has 1 bytes, should have 0",
    ]


def test_every_changed_byte_of_the_commit_is_found(checkpoint: Path) -> None:
    path = checkpoint / COMMIT_NAME
    content = path.read_bytes()
    body, refused = json.loads(content), 0
    for place in range(0, len(content) - 1, 7):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        try:
            found = read_commit(checkpoint)
        except CheckpointError:
            refused += 1
            continue
        assert json.loads(path.read_bytes()) == body  # only white space between values changed
        assert found.step == 7
    assert refused > 50


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda body: body.update(step=8), "does not match its checksum"),
        (lambda body: body["state"].update(tokens=71), "does not match its checksum"),
        (lambda body: body["files"].pop(), "does not match its checksum"),
        (lambda body: body.pop("checksum"), r"is damaged \('checksum'\)"),
    ],
)
def test_a_changed_commit_is_told(checkpoint: Path, spoil: Callable[[dict[str, object]], object], message: str) -> None:
    body = json.loads((checkpoint / COMMIT_NAME).read_text())
    spoil(body)
    (checkpoint / COMMIT_NAME).write_text(json.dumps(body))
    with pytest.raises(CheckpointError, match=rf"step-00000007: COMMIT.json {message}"):
        read_commit(checkpoint)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff"])
def test_a_commit_that_is_none_is_told(checkpoint: Path, content: bytes) -> None:
    (checkpoint / COMMIT_NAME).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"COMMIT.json is damaged"):
        read_commit(checkpoint)
    (checkpoint / COMMIT_NAME).unlink()
    with pytest.raises(CheckpointError, match=r"COMMIT.json is missing"):
        read_commit(checkpoint)


def test_files_that_no_rank_wrote_are_deleted_and_never_listed(tmp_path: Path) -> None:
    partial = begin(tmp_path, 1)
    (partial / "state").mkdir()
    (partial / "state" / "a.pt").write_bytes(b"a")
    (partial / "state" / "planted.pt").write_bytes(b"pickle")
    (partial / "zero_to_fp32.py").write_text("import os")
    record = FileRecord("state/a.pt", 1, hashlib.sha256(b"a").hexdigest())
    final = commit(partial, Commit(1, 1, 0, {}, {}, (record,)))
    assert sorted(str(path.relative_to(final)) for path in final.rglob("*.*")) == [COMMIT_NAME, "state/a.pt"]
    (final / "state" / "planted.pt").write_bytes(b"pickle")
    assert unlisted(final, read_commit(final)) == ["state/planted.pt is not listed in COMMIT.json"]


@pytest.mark.parametrize("content", [None, b"shor"])
def test_a_file_that_is_not_whole_is_not_committed(tmp_path: Path, content: bytes | None) -> None:
    partial = begin(tmp_path, 1)
    if content is not None:
        (partial / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a.pt is missing or short after writing; is the run folder shared"):
        commit(partial, Commit(1, 1, 0, {}, {}, (FileRecord("a.pt", 5, "0" * 64),)))
    assert committed_steps(tmp_path) == []


def test_left_over_partial_folders_are_deleted(checkpoint: Path) -> None:
    half = begin(checkpoint.parent, 8)
    (half / "a").touch()
    assert begin(checkpoint.parent, 9).name == "step-00000009.partial"
    assert names(checkpoint.parent) == ["step-00000007", "step-00000009.partial"]
    assert committed_steps(checkpoint.parent) == [7]


def test_the_same_step_again_takes_the_place_of_the_old(checkpoint: Path) -> None:
    write_checkpoint(checkpoint.parent, 7, {"other": b"new"})
    assert [file.name for file in read_commit(checkpoint).files] == ["other"]
    assert names(checkpoint.parent) == ["step-00000007"]


def test_a_bad_checkpoint_is_set_aside_with_the_reason(checkpoint: Path) -> None:
    first = set_aside(checkpoint, "flipped")
    assert (first.name, (first / "REASON.txt").read_text()) == ("step-00000007.corrupt", "flipped\n")
    assert (first / "state/rank_0.pt").read_bytes() == CONTENTS["state/rank_0.pt"]
    second = set_aside(write_checkpoint(checkpoint.parent, 7), "cut")
    assert second.name == "step-00000007.corrupt-2"
    assert committed_steps(checkpoint.parent) == []


def test_old_checkpoints_are_deleted(tmp_path: Path) -> None:
    for step in (5, 100, 20):
        write_checkpoint(tmp_path, step)
    (tmp_path / "step-00000001.corrupt").mkdir()
    (tmp_path / "notes").touch()
    assert delete_old(tmp_path, Checkpoints(keep_last=2), {}) == [5]
    assert delete_old(tmp_path, Checkpoints(keep_last=2), {}) == []
    assert committed_steps(tmp_path) == [20, 100]
    assert {"step-00000001.corrupt", "notes"} < set(names(tmp_path))


def test_steps_are_found_in_order(tmp_path: Path) -> None:
    assert committed_steps(tmp_path / "nothing") == []
    for step in (123456789, 3, 10):
        write_checkpoint(tmp_path, step)
    assert committed_steps(tmp_path) == [3, 10, 123456789]
    assert step_name(123456789) == "step-123456789"


ACTIONS = {
    "save": lambda checkpoints: write_checkpoint(checkpoints, 20, {**CONTENTS, "step": b"new"}),
    "again": lambda checkpoints: write_checkpoint(checkpoints, 10, {**CONTENTS, "step": b"new"}),
    "delete": lambda checkpoints: delete_old(checkpoints, Checkpoints(keep_last=1), {}),
}


def newest_whole(checkpoints: Path) -> tuple[int, bytes]:
    """The step and mark of the newest checkpoint that verifies, as loading looks for it."""
    for step in reversed(committed_steps(checkpoints)):
        folder = checkpoints / step_name(step)
        if not faults(folder, read_commit(folder).files):
            return step, (folder / "step").read_bytes()
    raise AssertionError("no checkpoint is left")


@pytest.mark.parametrize(
    ("action", "answers"),
    [
        ("save", [(10, b"old"), (20, b"new")]),
        ("again", [(10, b"old"), (5, b"older"), (10, b"new")]),
        ("delete", [(10, b"old")]),
    ],
)
def test_a_kill_between_any_two_operations_leaves_a_whole_checkpoint(
    tmp_path: Path, action: str, answers: list[tuple[int, bytes]]
) -> None:
    """The process is killed before its first, second, … file operation, until it gets through."""
    found = []
    for last in range(200):
        checkpoints = tmp_path / f"{last}"
        write_checkpoint(checkpoints, 5, {**CONTENTS, "step": b"older"})
        write_checkpoint(checkpoints, 10, {**CONTENTS, "step": b"old"})
        was_killed = killed_at(last, ACTIONS[action], checkpoints)
        found.append(newest_whole(checkpoints))
        write_checkpoint(checkpoints, 30, {"step": b"next"})  # and the run goes on
        assert newest_whole(checkpoints) == (30, b"next")
        assert not list(checkpoints.glob("*.partial"))
        if not was_killed:
            break
    else:
        raise AssertionError("the operations never came to an end")
    assert last > 5
    assert sorted(set(found), key=answers.index) == answers
    assert found == sorted(found, key=answers.index)  # from the old to the new, never back


@pytest.mark.parametrize("name", ["../outside", "/outside", "state/../../outside"])
def test_a_commit_that_names_a_file_outside_is_not_used(tmp_path: Path, name: str) -> None:
    record = Commit(1, 1, 0, {}, {}, (FileRecord(name, 1, hashlib.sha256(b"a").hexdigest()),))
    (tmp_path / "step-00000001").mkdir()
    body = {"format_version": FORMAT_VERSION, **asdict(record)}
    checksum = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (tmp_path / "step-00000001" / COMMIT_NAME).write_text(json.dumps({**body, "checksum": checksum}))
    with pytest.raises(CheckpointError, match=r"names .*outside, outside of the folder"):
        read_commit(tmp_path / "step-00000001")


def test_a_checkpoint_that_this_process_cannot_read_is_not_called_damaged(checkpoint: Path) -> None:
    """A loop of links: an error of the system that says nothing of the bytes."""
    (checkpoint / "state/rank_0.pt").unlink()
    (checkpoint / "state/rank_0.pt").symlink_to("rank_0.pt")
    with pytest.raises(UnreadableError, match=r"cannot be read: Too many levels of symbolic links; mend its rights or"):
        faults(checkpoint, read_commit(checkpoint).files)


def test_another_format_is_told_apart_from_damage(checkpoint: Path) -> None:
    body = json.loads((checkpoint / COMMIT_NAME).read_text())
    body.pop("checksum")
    body["format_version"] = 2
    checksum = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (checkpoint / COMMIT_NAME).write_text(json.dumps({**body, "checksum": checksum}))
    with pytest.raises(FormatError, match="has format version 2, this Tarmac reads 3; go on with the Tarmac"):
        read_commit(checkpoint)


def test_nothing_is_read_through_a_link_out_of_the_folder(checkpoint: Path) -> None:
    """A record names a file by its bytes, so a link to another file is found by its hash."""
    other = checkpoint.parent / "other"
    other.write_bytes(b"weights of rank X")
    (checkpoint / "state/rank_0.pt").unlink()
    os.symlink(other, checkpoint / "state/rank_0.pt")
    [record] = [file for file in read_commit(checkpoint).files if file.name == "state/rank_0.pt"]
    assert file_fault(checkpoint, record) == "state/rank_0.pt has other bytes than were written"
