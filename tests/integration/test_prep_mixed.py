"""One config, many forms of input, any executor: the same bytes. Reads the folder of real data."""

from pathlib import Path

import pytest

from pipeline.corpus.manifest import SPLIT_FOLDERS
from pipeline.corpus.verification import shard_fault, shard_files
from tests.integration.mixed_corpus import mixed_config, write_inputs
from tests.integration.test_prep import contents, run, texts
from tests.integration.test_prep_never_twice import tasks_run

pytestmark = [pytest.mark.realdata, pytest.mark.timeout(900)]


def test_same_bytes_on_one_and_three_processes_and_on_ray(
    realdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.plan.TASK_BYTES", 1 << 20)  # many tasks
    write_inputs(realdata, tmp_path)
    corpus = run(mixed_config(realdata, tmp_path, tmp_path / "one"))
    one = contents(corpus)
    assert contents(run(mixed_config(realdata, tmp_path, tmp_path / "three", workers=3))) == one
    ray = mixed_config(realdata, tmp_path, tmp_path / "ray", workers=2, executor={"type": "ray"})
    assert contents(run(ray)) == one

    assert not [fault for file in shard_files(corpus) if (fault := shard_fault(file.path, file.entry))]
    sources = corpus.manifest.statistics["sources"]
    assert sources.keys() == {"novels", "papers", "problems", "web"}
    assert sources["web"]["rejected"]
    assert sources["novels"]["dropped"]["duplicate"] > 0
    assert sum(source["dropped"].get("near_duplicate", 0) for source in sources.values()) > 0
    assert sources["papers"]["dropped"]["decontaminate:contaminated"] > 0
    assert [reason for reason in sources["papers"]["dropped"] if reason.startswith("gopher_repetition:")]
    assert [reason for reason in sources["web"]["dropped"] if reason.startswith("language:")]
    assert not set(sources["problems"]["dropped"]) - {"cleaning:too_short", "duplicate", "near_duplicate"}
    pages = [text for split in SPLIT_FOLDERS for text in texts(corpus, split, "web").values()]
    assert any("email@example.com" in text for text in pages)
    assert tasks_run(corpus)["read"] > 2 * len(sources)
    assert sum(source["re_encoded_shards"] for source in sources.values()) == 0
    assert set(corpus.manifest.test) <= set(corpus.manifest.train)
