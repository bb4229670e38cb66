import io
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from data_prep.plan import plan_sources, read_tasks
from data_prep.reading.inputs import contents_sha256
from data_prep.rehash import HashTask, forget_changed
from data_prep.tasks.runner import Runner
from pipeline.config.load import validate
from pipeline.config.prep.recipe import PrepConfig
from pipeline.errors import CorpusError
from tests.unit.data_prep.reads import counts, runner_for
from tests.unit.data_prep.test_existing import source
from tests.unit.data_prep.write_task import done_of

QUIET = Console(file=io.StringIO())


@pytest.fixture
def config(tmp_path: Path) -> PrepConfig:
    """Two sources of two files each; they have the same names."""
    for name in ("web", "code"):
        for number in range(2):
            path = tmp_path / name / f"{number}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{name} {number}, a text of some length that is the only one in its file" * 2)
    sources = [source(name, reader={"type": "text", "paths": [str(tmp_path / name)]}) for name in ("web", "code")]
    tokenizer = {"type": "train", "vocab_size": 300}
    values = {"stage": "prep", "output": str(tmp_path / "out"), "sources": sources, "tokenizer": tokenizer}
    return validate(PrepConfig, values, "test")


def read(config: PrepConfig, work: Path) -> Runner:
    runner = runner_for(work)
    for plan in plan_sources(config):
        runner.run(read_tasks(config, plan))
    return runner


def finished(config: PrepConfig, work: Path) -> list[bool]:
    return [done_of(work, task) is not None for plan in plan_sources(config) for task in read_tasks(config, plan)]


def change_unnoticed(path: Path) -> None:
    times, text = path.stat(), path.read_text()
    path.write_text(text[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("changes", [(), ("code/1.txt",), ("code/0.txt", "code/1.txt"), ("web/0.txt", "code/0.txt")])
def test_only_tasks_whose_inputs_changed_are_forgotten(
    tmp_path: Path, config: PrepConfig, changes: Sequence[str]
) -> None:
    work = tmp_path / "work"
    runner = read(config, work)
    for name in changes:
        change_unnoticed(tmp_path / name)
    assert all(finished(config, work))
    assert forget_changed(config, plan_sources(config), runner, QUIET, None, False) == bool(changes)
    assert finished(config, work) == [not any(name in change for change in changes) for name in ("web", "code")]
    assert counts(runner) == {"read": (2, 2)}
    assert not (work / "rehash").exists()
    read(config, work)
    assert not forget_changed(config, plan_sources(config), runner, QUIET, None, False)


def test_an_input_that_cannot_be_read_is_told(tmp_path: Path, config: PrepConfig) -> None:
    runner, plans = read(config, tmp_path / "work"), plan_sources(config)
    (tmp_path / "web" / "0.txt").unlink()
    with pytest.raises(CorpusError, match=r"0\.txt cannot be read"):
        forget_changed(config, plans, runner, QUIET, None, False)


def test_what_an_earlier_start_found_is_not_taken(config: PrepConfig) -> None:
    files = plan_sources(config)[0].files
    assert HashTask(files, "a").key != HashTask(files, "b").key


HASHES = st.dictionaries(st.sampled_from("abc"), st.none() | st.sampled_from("01"), max_size=3)


@given(st.lists(HASHES, max_size=3), st.lists(HASHES, max_size=3))
def test_one_checksum_tells_inputs_apart_however_they_are_grouped(
    one: list[dict[str, str | None]], two: list[dict[str, str | None]]
) -> None:
    flat = [[pair for group in groups for pair in group.items()] for groups in (one, two)]
    assert (contents_sha256(one) == contents_sha256(two)) == (flat[0] == flat[1])
