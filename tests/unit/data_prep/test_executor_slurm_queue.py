import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.corpus.places import work_path
from data_prep.executors.slurm import SlurmArrays, cancel_left_over, failure
from data_prep.executors.slurm_queue import ranges, sbatch_options
from data_prep.work import work_folder
from pipeline.config.prep.executors import SlurmExecutor
from pipeline.config.prep.recipe import PrepConfig
from pipeline.errors import ConfigError, CorpusError, TarmacError
from pipeline.runtime.logs import get_logger


@given(st.sets(st.integers(0, 300), min_size=1))
def test_ranges_name_each_number_once(numbers: set[int]) -> None:
    named = []
    for part in ranges(sorted(numbers)).split(","):
        first, _, last = part.partition("-")
        named += range(int(first), int(last or first) + 1)
    assert named == sorted(numbers)


def test_neighbours_share_a_range() -> None:
    assert ranges([0, 1, 2, 3, 7, 9, 10]) == "0-3,7,9-10"


def test_options_of_the_config_win_over_defaults_but_not_over_what_the_executor_relies_on() -> None:
    config = SlurmExecutor(
        type="slurm", partition="cpu", time="01:00:00", memory_gb=3,
        sbatch={"mem": "5G", "qos": "low", "exclusive": "", "array": "0-9", "job-name": "mine"},
    )  # fmt: skip
    options = sbatch_options(config, "tarmac-x", [0, 1], 4, Path("/disk/100%/jobs"))
    assert set(options) == {
        "--parsable", "--no-requeue", "--ntasks=1", "--cpus-per-task=1", "--time=01:00:00", "--mem=5G",
        "--partition=cpu", "--qos=low", "--exclusive", "--array=0-1%4", "--job-name=tarmac-x", "--open-mode=append",
        "--output=/disk/100%%/jobs/%a.log",
    }  # fmt: skip


def test_without_slurm_the_cure_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs sbatch, squeue, scancel on the PATH.*executor\.type to local"):
        SlurmArrays(SlurmExecutor(type="slurm"), None).__enter__()


def test_workers_are_64_if_not_given() -> None:
    assert SlurmArrays(SlurmExecutor(type="slurm"), None).workers == 64
    assert SlurmArrays(SlurmExecutor(type="slurm"), 3).workers == 3


def config_for(tmp_path: Path, executor: str) -> PrepConfig:
    values = {
        "stage": "prep",
        "output": str(tmp_path / "out"),
        "sources": [{"name": "a", "reader": {"type": "text", "paths": [str(tmp_path)]}}],
        "tokenizer": {"type": "train", "vocab_size": 300},
        "executor": {"type": executor},
    }
    return PrepConfig.model_validate(values)


@pytest.mark.parametrize("executor", ["local", "slurm"])
def test_jobs_of_a_killed_driver_end_whatever_runs_the_tasks_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    for command in ("scancel", "squeue"):
        (tmp_path / command).write_text(f'#!/bin/sh\necho {command} "$@" >> {tmp_path}/log\n')
        (tmp_path / command).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    job = work_path(config_for(tmp_path, executor)) / "jobs" / "read-0123"
    job.mkdir(parents=True)
    (job / "tasks.pkl").write_bytes(b"https://there/?signature=secret")
    with work_folder(config_for(tmp_path, executor)):
        assert (tmp_path / "log").read_text().splitlines()[0] == "scancel --name=tarmac-read-0123"
        assert not job.exists()


def test_without_slurm_its_jobs_are_left_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(get_logger("slurm"), "propagate", True)
    (tmp_path / "jobs" / "read-0123").mkdir(parents=True)
    cancel_left_over(tmp_path)
    assert (tmp_path / "jobs" / "read-0123").exists()
    assert f"{tmp_path}/jobs has jobs of SLURM that may go on" in caplog.text


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        (
            "TIMEOUT",
            ConfigError,
            r"executor\.time \(04:00:00\) is too short.*read; raise it or lower.*tasks_per_job \(1\)",
        ),
        ("DEADLINE", ConfigError, r"executor\.time"),
        ("OUT_OF_MEMORY", ConfigError, r"executor\.memory_gb \(2\) is too little for a task of read; raise it"),
        ("CANCELLED", CorpusError, r"an array task of read was cancelled; find out by whom"),
        ("FAILED", CorpusError, r"an array task of read died \(Bus error\); read .*0\.log"),
    ],
)
def test_each_end_has_its_cure(tmp_path: Path, state: str, kind: type[TarmacError], words: str) -> None:
    (tmp_path / "0.log").write_text("first\nBus error\n\n")
    error = failure(SlurmExecutor(type="slurm"), "read", state, tmp_path / "0.log")
    assert type(error) is kind
    assert re.match(rf"^{words}.*, then give the same command: finished tasks are kept$", str(error))


def test_a_task_without_a_log_points_at_the_disk(tmp_path: Path) -> None:
    error = failure(SlurmExecutor(type="slurm"), "read", "FAILED", tmp_path / "0.log")
    assert "died (without a log: do all nodes see work?)" in str(error)
