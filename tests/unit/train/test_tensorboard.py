"""TensorBoard's files, read back as it reads them."""

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.errors import MissingDependencyError
from pipeline.train.tracking.tensorboard import TensorBoard


def read(run: Path) -> list[tuple[int, float]]:
    found = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars("train/loss")]


def test_steps_that_are_made_again_take_the_place_of_those_before(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    for back, last, loss in ((0, 5, 1.0), (3, 6, 2.0), (4, 8, 3.0)):
        board.begin(back)
        for step in range(back + 1, last + 1):
            board.log(step, {"train/loss": loss, "validation/loss": None})
    board.finish(0)
    board.log(9, {"train/loss": 4.0})
    assert read(tmp_path) == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 3), (6, 3), (7, 3), (8, 3)]


def test_a_row_is_on_disk_when_it_was_logged(tmp_path: Path) -> None:
    """A kill takes none, also one whose step a checkpoint has."""
    board = TensorBoard(tmp_path)
    board.begin(0)
    board.log(1, {"train/loss": 1.0})
    assert read(tmp_path) == [(1, 1)]


def test_a_folder_that_cannot_be_written_turns_it_off(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    board = TensorBoard(tmp_path)
    board.begin(0)
    board.log(1, {"train/loss": 1.0})
    board.finish(0)


def test_without_the_package_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tarmac\[tensorboard\]'"):
        TensorBoard(tmp_path)
