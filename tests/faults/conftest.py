from pathlib import Path

import pytest

from tests.faults.runs import Job, small_corpus_folder, write_recipe


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus_folder(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """An uninterrupted run of sixty steps on two ranks."""
    recipe = write_recipe(tmp_path_factory.mktemp("plain") / "plain.yaml", corpus)
    with Job(recipe) as job:
        job.done()
    return job.run
