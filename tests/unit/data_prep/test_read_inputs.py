"""What filters and tokenizers are read from may change between planning and the end of the work."""

import json
from pathlib import Path
from typing import Any

import pytest

from data_prep.filters import build_filters
from data_prep.plan import plan_sources, read_tasks
from data_prep.reading.task import ReadTask
from data_prep.tokenizer.tasks import GivenTokenizerTask
from data_prep.tokenizer.train import train_tokenizer
from pipeline.config.load import validate
from pipeline.config.prep.recipe import PrepConfig
from pipeline.config.prep.tokenizer import TrainTokenizer
from pipeline.errors import CorpusError, TokenizerError
from tests.unit.small import small_texts


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReadTask:
    """Reads two pages, one of a domain that a list names."""
    pages = [{"text": f"{host} has words " * 10, "url": f"http://{host}/"} for host in ("a.org", "b.org")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(page) + "\n" for page in pages))
    (tmp_path / "list").write_text("a.org\n")
    monkeypatch.chdir(tmp_path)
    reader = {"type": "jsonl", "paths": ["in.jsonl"], "metadata": {"url": "url"}}
    values = {
        "stage": "prep",
        "output": "out",
        "sources": [{"name": "web", "reader": reader}],
        "filters": [{"type": "url", "domain_files": ["list"]}],
        "tokenizer": {"type": "train", "vocab_size": 300},
    }
    config = validate(PrepConfig, values, "test")
    [task] = read_tasks(config, plan_sources(config)[0])
    return task


def run(task: ReadTask, tmp_path: Path) -> dict[str, int]:
    (tmp_path / "folder").mkdir()
    return task.run(tmp_path, tmp_path / "folder").dropped


def test_a_list_that_is_what_it_was_is_read(task: ReadTask, tmp_path: Path) -> None:
    assert run(task, tmp_path) == {"url:domain": 1}


def test_a_list_that_changed_since_the_planning_is_an_error(task: ReadTask, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("")
    with pytest.raises(CorpusError, match=r"source 'web': files that its filters read \(list\) are not what they were"):
        run(task, tmp_path)


def test_a_list_that_changes_while_a_task_runs_is_an_error(
    task: ReadTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_late(*values: Any) -> Any:
        (tmp_path / "list").write_text("")
        return build_filters(*values)

    monkeypatch.setattr("data_prep.reading.task.build_filters", build_late)
    with pytest.raises(CorpusError, match="not what they were when the work was planned; let them lie"):
        run(task, tmp_path)


def test_a_worker_in_another_folder_says_which_file_it_lacks(
    task: ReadTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(CorpusError, match=r"not there for a worker in .*elsewhere .*list.*give absolute paths"):
        run(task, tmp_path)


def test_a_given_tokenizer_that_changed_since_the_planning_is_an_error(tmp_path: Path) -> None:
    for size in (400, 401):
        train_tokenizer(small_texts(50), TrainTokenizer(type="train", vocab_size=size)).save(tmp_path / str(size))
    planned = train_tokenizer(small_texts(50), TrainTokenizer(type="train", vocab_size=400)).fingerprint()
    assert GivenTokenizerTask(planned, str(tmp_path / "400")).run(tmp_path, tmp_path / "one") == planned
    with pytest.raises(TokenizerError, match=r"tokenizer.path \(.*401\) holds another tokenizer than when"):
        GivenTokenizerTask(planned, str(tmp_path / "401")).run(tmp_path, tmp_path / "two")
    assert not (tmp_path / "two").exists()
