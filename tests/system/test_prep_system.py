"""Data preparation on a real SLURM, and on a disk that fills up."""

import subprocess
from pathlib import Path

import pytest

from pipeline.errors import CorpusError
from tests.integration.mixed_corpus import mixed_config, write_inputs
from tests.integration.test_prep import config_for, contents, inputs, run
from tests.integration.test_prep_never_twice import tasks_run
from tests.system.slurm_cluster import SlurmCluster

__all__ = ["inputs"]


@pytest.mark.realdata
@pytest.mark.timeout(900)
def test_a_mixed_corpus_on_slurm_has_the_bytes_of_one_process(
    realdata: Path, tmp_path: Path, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.plan.TASK_BYTES", 1 << 20)  # many tasks
    write_inputs(realdata, tmp_path)
    one = contents(run(mixed_config(realdata, tmp_path, tmp_path / "one")))
    executor = {"type": "slurm", "memory_gb": 1, "poll_seconds": 1, "sbatch": {"mem": "1G"}, "tasks_per_job": 4}
    slurm_config = mixed_config(realdata, tmp_path, tmp_path / "slurm", workers=2, executor=executor)
    corpus = run(slurm_config)
    assert contents(corpus) == one
    assert tasks_run(corpus)["read"] > 2 * len(corpus.manifest.train)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_sentence_and_room_lets_it_go_on(
    inputs: Path, tmp_path: Path, small_disk: Path, workers: int
) -> None:
    config = config_for(inputs, small_disk / "out", workers=workers, keep_work="everything")
    with pytest.raises(CorpusError, match=r"cannot be written: No space left on device; make room") as error:
        run(config)
    assert "\n" not in str(error.value)
    assert not (small_disk / "out").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert contents(run(config)) == contents(run(config_for(inputs, tmp_path / "whole", keep_work="everything")))
