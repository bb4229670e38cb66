import hashlib
import os
import platform
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from data_prep.executors.worker import ERROR_SUFFIX, TASKS_NAME, pack, read_error
from data_prep.tasks.code import code_identity
from data_prep.tasks.runner import Item, run_item
from data_prep.tasks.store import complete, find_done, task_folder
from data_prep.tasks.task import Task
from pipeline.errors import CorpusError, TokenizerError
from tests.unit.data_prep.executor_tasks import Refused, Square, ran

ROOT = Path(__file__).parents[3]


def items(*tasks: Task) -> list[Item]:
    return [(task, task_folder(task)) for task in tasks]


def write_shares(work: Path, *shares: list[Item]) -> str:
    content = pack((work, partial(run_item, work, {}), shares))
    (work / TASKS_NAME).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def work_on(work: Path, sha256: str, number: int) -> "subprocess.CompletedProcess[str]":
    """What SLURM runs, away from this checkout: `tests` is found because the packing process found it."""
    return subprocess.run(
        [sys.executable, "-m", "data_prep.executors.worker", str(work), sha256],
        cwd=work, env={**os.environ, "SLURM_ARRAY_TASK_ID": str(number)}, capture_output=True, text=True,
    )  # fmt: skip


def test_an_array_task_runs_its_share_without_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    first, second, third = items(Square(1), Square(2), Square(3))
    complete(tmp_path, *second)
    sha256 = write_shares(tmp_path, [first], [second, third])
    done = work_on(tmp_path, sha256, 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert find_done(tmp_path, *first) is None
    assert ran(tmp_path) == [2, 3]


def test_an_error_is_told_with_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    done = work_on(tmp_path, write_shares(tmp_path, items(Refused(3))), 0)
    assert (done.returncode, done.stderr) == (2, "number (3) is not wanted; take another\n")
    error = read_error(tmp_path / f"0{ERROR_SUFFIX}")
    assert (type(error), str(error)) == (TokenizerError, "number (3) is not wanted; take another")


def test_tasks_that_were_changed_are_never_unpickled(tmp_path: Path) -> None:
    sha256 = write_shares(tmp_path, items(Square(1)))
    harm = tmp_path / "harm"
    evil = f"cposix\nsystem\n(Vtouch {harm}\ntR.".encode()
    (tmp_path / TASKS_NAME).write_bytes(evil)
    done = work_on(tmp_path, sha256, 0)
    assert done.returncode == 2
    assert not harm.exists()
    error = read_error(tmp_path / f"0{ERROR_SUFFIX}")
    assert type(error) is CorpusError
    assert sha256 in str(error)
    assert hashlib.sha256(evil).hexdigest() in str(error)


def test_a_worker_of_another_version_refuses_its_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a node with a Tarmac of its own; the driver tells which library it is."""
    monkeypatch.syspath_prepend(ROOT)
    task = Square(1)
    here = code_identity(task.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.tasks.task.code_identity", lambda modules: {**here, "python": "2.7"})
        (item,) = items(task)
    content = pack((tmp_path, partial(run_item, tmp_path, {task.modules: {**here, "python": "2.7"}}), [[item]]))
    (tmp_path / TASKS_NAME).write_bytes(content)
    done = work_on(tmp_path, hashlib.sha256(content).hexdigest(), 0)
    error = read_error(tmp_path / f"0{ERROR_SUFFIX}")
    assert type(error) is CorpusError
    difference = f"python {platform.python_version()} instead of 2.7"
    assert f"would run otherwise than planned ({difference}); let all workers" in str(error)
    assert done.returncode == 2
    assert ran(tmp_path) == []
