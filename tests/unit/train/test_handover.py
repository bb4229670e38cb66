"""Which events W&B is told of, where a run was begun by a version that told of none."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.runtime.files import write_json
from pipeline.runtime.journal import Journal
from pipeline.train.tracking.following import mark_path
from pipeline.train.tracking.handover import Handover


class Run(SimpleNamespace):
    """In place of W&B's run, which needs a process of its own: keeps what it is told."""

    def alert(self, *of: str) -> None:
        self.alerts.append(of)


def told(folder: Path) -> list[str]:
    """Titles of what a new session tells."""
    run = Run(step=0, id="i", dir=str(folder / "wandb" / "files"), alerts=[])
    Handover(run, folder, {}).go_on()
    return [title for title, *_ in run.alerts]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wandb").mkdir()
    Journal(tmp_path).write("spike", step=7, z=9.0)
    return tmp_path


def test_old_events_of_a_run_of_an_older_version_are_not_told(folder: Path) -> None:
    write_json(mark_path(folder), {"bytes": 0})
    assert told(folder) == []
    Journal(folder).write("spike", step=9, z=9.0)
    assert told(folder) == ["loss spike at step 9"]


def test_a_session_that_was_killed_before_it_noted_events_is_none_of_an_older_version(folder: Path) -> None:
    assert told(folder) == ["loss spike at step 7"]
    write_json(mark_path(folder), {"bytes": 0})
    assert told(folder) == ["loss spike at step 7"]
