from pathlib import Path
from typing import Any

import pytest

from data_prep.corpus.places import output_path, work_path
from pipeline.errors import ConfigError
from tests.unit.data_prep.test_existing import config_for, source


@pytest.mark.parametrize("output", ["data/mine", "data/mine/", "data//mine/.", "data/x/../mine", "./data/mine//"])
def test_the_work_folder_is_beside_the_output_however_that_is_written(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = config_for(source("web"), output=output)
    assert output_path(config) == tmp_path / "data" / "mine"
    assert work_path(config) == tmp_path / "data" / "mine.work"


def test_the_folder_where_one_is_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert work_path(config_for(source("web"), output=".")) == tmp_path / "here.work"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"output": "s3://bucket/mine"}, r"output \(s3://bucket/mine\) must be a folder on a file system, not a URL"),
        ({"output": "mine", "work": "gs://b/w"}, r"work \(gs://b/w\) must be a folder on a file system, not a URL"),
        ({"output": "/"}, r"output \(/\) is the root folder; give a folder in it"),
        ({"output": "mine", "work": "mine/work"}, r"work \(mine/work\) and output \(mine\) must not lie one in"),
        ({"output": "mine/", "work": "./mine"}, r"set work to a folder beside it, such as .*/mine\.work"),
        ({"output": "data/mine", "work": "data"}, r"work \(data\) and output \(data/mine\) must not lie one in"),
        ({"output": "mine", "work": "link/work"}, r"work \(link/work\) and output \(mine\) must not lie one in"),
        ({"output": "mine", "work": "mine.partial"}, r"work \(mine\.partial\) is where the corpus is put together"),
        ({"output": "mine", "work": "mine.replaced/w"}, r"work \(mine\.replaced/w\) is where the corpus is put"),
    ],
    ids=str,
)
def test_places_that_would_be_lost_are_refused(
    values: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(ConfigError, match=sentence):
        work_path(config_for(source("web"), **values))


@pytest.mark.parametrize("work", ["mine.works", "minework", "other/mine"])
def test_places_that_only_look_alike_are_good(work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert work_path(config_for(source("web"), output="mine", work=work)) == tmp_path / work
