"""`tarmac verify RUN`: every byte is compared, and what the bytes say."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.engine.checkpoint.commit import Commit, begin, commit, hashed_file, step_name
from pipeline.engine.checkpoint.index import INDEX_NAME, index_of
from pipeline.engine.checkpoint.tensors import Part, write_tensors
from pipeline.stages.verify import checkpoint_fault, verify
from tests.unit.small import small_model, small_run, small_tokenizer

FILES = ("state/rank-00000.safetensors", "state/rank-00001.safetensors")
SHAPE, FIRST = (3, 4), 5

Change = Callable[[dict[str, Any]], object]


def committed(checkpoints: Path, change: Change, step: int = 7) -> Path:
    """A checkpoint of one tensor in two files, whose bytes are all as committed, with something else in its index."""
    partial = begin(checkpoints, step)
    values = torch.arange(12.0)
    pieces = ((0, values[:FIRST].clone()), (FIRST, values[FIRST:].clone()))
    records, written = [], []
    for name, (start, part) in zip(FILES, pieces, strict=True):
        one = Part("master/model.w", SHAPE, start, part.numel(), part.dtype, lambda part=part: part)
        record, rows = write_tensors(partial, name, [one])
        records.append(record)
        written += rows
    body = json.loads(index_of("AdamW", written, {}).to_bytes())
    change(body)
    records.append(hashed_file(partial, INDEX_NAME, json.dumps(body).encode()))
    return commit(partial, Commit(step, 2, 0, {}, {}, tuple(records)))


def with_pieces(*pieces: tuple[int, int, int]) -> Change:
    """File, first element and number of elements of each."""
    return lambda body: body["tensors"]["master/model.w"].update(pieces=pieces)


def renamed(body: dict[str, Any]) -> None:
    body["tensors"]["master/model.v"] = body["tensors"].pop("master/model.w")


WRONG: dict[str, tuple[Change, str]] = {
    "gap": (with_pieces((0, 0, 5), (1, 6, 7)), "master/model.w: its pieces have a gap at element 5"),
    "overlap": (with_pieces((0, 0, 5), (1, 4, 7)), "master/model.w: its pieces overlap at element 5"),
    "short": (with_pieces((0, 0, 5)), "master/model.w: its pieces hold 5 of 12 elements"),
    "another file": (
        lambda body: body.update(files=[FILES[0], "state/rank-00002.safetensors"]),
        "index.json has master/model.w in state/rank-00002.safetensors, which COMMIT.json does not list",
    ),
    "another length": (
        with_pieces((0, 0, 4), (1, 4, 8)),
        f"{FILES[0]} does not hold the 4 elements of master/model.w that it should",
    ),
    "another name": (renamed, f"{FILES[0]} does not hold the 5 elements of master/model.v that it should"),
    "no index": (
        lambda body: body.pop("files"),
        "step-00000007: index.json cannot be read ('files'); use an older one",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_index_that_does_not_find_every_tensor_is_damage(tmp_path: Path, name: str) -> None:
    change, sentence = WRONG[name]
    assert checkpoint_fault(committed(tmp_path, change)) == sentence


def test_pieces_that_are_the_whole_are_good_until_a_byte_changes(tmp_path: Path) -> None:
    folder = committed(tmp_path, lambda body: None)
    assert checkpoint_fault(folder) is None
    content = bytearray((folder / FILES[1]).read_bytes())
    content[-1] ^= 1
    (folder / FILES[1]).write_bytes(content)
    assert checkpoint_fault(folder) == f"{FILES[1]} has other bytes than were written"


def test_a_listed_file_that_is_none_of_tensors_is_told(tmp_path: Path) -> None:
    partial = begin(tmp_path, 7)
    record = hashed_file(partial, "state.safetensors", b"nothing of the kind")
    folder = commit(partial, Commit(7, 1, 0, {}, {}, (record,)))
    assert str(checkpoint_fault(folder)).startswith("state.safetensors is no file of tensors (")


def test_a_run_is_good_only_if_all_of_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    tokenizer = small_tokenizer(tmp_path / "tokenizer")
    data = {"type": "corpus", "sources": [{"corpus": "unused", "source": "small"}], "sequence_length": 32}
    run = small_run(tmp_path / "run", tokenizer, small_model(tokenizer.vocab_size), data)
    assert verify(run) == 0
    shutil.move(committed(tmp_path / "other", WRONG["short"][0], step=2), run / "checkpoints" / step_name(2))
    assert verify(run) == 1
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [row.split("│")[2].strip() for row in rows] == [
        "good", "good", "good", "master/model.w: its pieces hold 5 of 12 elements", "good",
    ]  # fmt: skip
