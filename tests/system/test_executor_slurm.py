"""Tasks by job arrays of a real SLURM, with what goes wrong on clusters."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from data_prep.executors.slurm import SlurmArrays
from data_prep.tasks.runner import Runner
from data_prep.tasks.store import Done
from data_prep.tasks.task import Task
from pipeline.config.prep.executors import SlurmExecutor
from pipeline.errors import ConfigError, CorpusError, TokenizerError
from tests.system.slurm_cluster import SlurmCluster
from tests.unit.data_prep.executor_tasks import Counted, Gated, Killed, Square, begun, ran, wait_until

ROOT = Path(__file__).parents[2]
MISLEADING = {"SQUEUE_USERS": "nobody", "SCANCEL_STATE": "PENDING"}
"""A user's own defaults, which must not matter."""


@pytest.fixture
def work(tmp_path: Path, slurm: SlurmCluster) -> Iterator[Path]:
    """A work folder whose name a shell and SLURM would misread; whatever a test left in the queue goes."""
    folder = tmp_path / "a work %j folder"
    folder.mkdir()
    yield folder
    slurm.run("scancel", "--user=root")
    wait_until(lambda: not queue(slurm))


def config(**changes: object) -> SlurmExecutor:
    values = {"type": "slurm", "memory_gb": 1, "poll_seconds": 1, "sbatch": {"mem": "200M"}}
    return SlurmExecutor.model_validate(values | changes)


def run(work: Path, tasks: list[Task], workers: int = 4, **changes: object) -> list[Done]:
    with SlurmArrays(config(**changes), workers) as executor:
        return Runner(work, executor, Console(file=io.StringIO())).run(tasks)


def queue(slurm: SlurmCluster, *options: str) -> list[str]:
    return slurm.run("squeue", "--noheader", "--array", "--format=%F %K %T %j", *options).splitlines()


@contextmanager
def driver(work: Path, num_tasks: int, **changes: object) -> Iterator["subprocess.Popen[str]"]:
    """Another process that runs gated tasks; it is killed at the end."""
    words = [str(work), config(**changes).model_dump_json(), "4", "Gated", str(num_tasks)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.data_prep.executor_driver", *words], cwd=ROOT, env=os.environ | MISLEADING,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def open_gate(work: Path) -> None:
    (work / "open").touch()


@pytest.mark.parametrize(("max_array_size", "tasks_per_job"), [(1000, 1), (2, 2)])
def test_results_come_in_the_order_of_the_tasks(slurm, work: Path, max_array_size: int, tasks_per_job: int) -> None:
    tasks = [Square(number) for number in range(7)]
    run(work, tasks[2:4])
    done = run(work, tasks, max_array_size=max_array_size, tasks_per_job=tasks_per_job)
    assert [one.result for one in done] == [number**2 for number in range(7)]
    assert ran(work) == list(range(7))
    assert not list((work / "jobs").iterdir())


def test_so_many_run_at_a_time(slurm, work: Path) -> None:
    done = run(work, [Counted(number) for number in range(6)], workers=2)
    assert max(one.result for one in done) <= 2


def test_an_error_of_one_task_is_raised_as_it_is_and_the_others_are_cancelled(slurm, work: Path) -> None:
    tasks = [Gated(0), Gated(1, gate=".", refused=True), Gated(2)]  # `.` is there already
    with pytest.raises(TokenizerError, match=r"^number \(1\) is not wanted; take another$"):
        run(work, tasks)
    wait_until(lambda: not queue(slurm))
    open_gate(work)
    assert [one.result for one in run(work, [tasks[0], tasks[2]])] == [0, 2]
    assert not list((work / "jobs").iterdir())


def test_a_task_that_dies_without_a_word_is_told_with_its_log(slurm, work: Path) -> None:
    with pytest.raises(CorpusError, match=r"an array task of killed died \(.*killed.*\); read .*log, then") as caught:
        run(work, [Killed(9)])
    log = Path(str(caught.value).split("read ")[1].split(", then")[0])
    assert log.is_file()
    assert (work / "deaths.log").read_text() == "died\n"


def test_someone_cancels_an_array_task(slurm, work: Path) -> None:
    with driver(work, 2) as process:
        wait_until(lambda: len(begun(work)) == 2)
        [name] = {row.split()[3] for row in queue(slurm)}
        slurm.run("scancel", f"--name={name}")
        _, said = process.communicate(timeout=120)
    assert "CorpusError: an array task of gated was cancelled; find out by whom" in said


def test_a_lost_node_costs_time_only(slurm, work: Path) -> None:
    try:
        with driver(work, 2, sbatch={"mem": "200M", "spread-job": "", "exclusive": ""}) as process:
            wait_until(lambda: len(begun(work)) == 2)
            slurm.kill_node("n1")
            wait_until(lambda: slurm.node_states()["n1"].startswith("down"))
            open_gate(work)
            said, errors = process.communicate(timeout=200)
    finally:
        slurm.start_node("n1")
        wait_until(lambda: slurm.node_states()["n1"] == "idle")
    assert said == "4 [0, 1]\n", (process.returncode, errors)
    assert "NODE_FAIL" in errors
    assert len(begun(work)) == 3


def test_the_controller_may_be_away_for_a_while(slurm, work: Path) -> None:
    with driver(work, 2) as process:
        wait_until(lambda: len(begun(work)) == 2)
        slurm.stop_controller()
        try:
            open_gate(work)
            said, errors = process.communicate(timeout=200)
        finally:
            slurm.start_controller()
    assert said == "4 [0, 1]\n", errors


def test_a_preempted_task_is_submitted_again(slurm, work: Path) -> None:
    with driver(work, 2, partition="low") as process:
        wait_until(lambda: len(begun(work)) == 2)
        slurm.run("sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
        wait_until(lambda: len(begun(work)) == 4)
        open_gate(work)
        said, errors = process.communicate(timeout=200)
    assert said == "4 [0, 1]\n", (process.returncode, errors)
    assert "PREEMPTED" in errors


def test_jobs_of_a_killed_driver_are_cancelled_before_anything_runs_again(slurm, work: Path) -> None:
    with driver(work, 3) as process:
        wait_until(lambda: len(begun(work)) == 3)
        process.kill()
        process.wait()
    old = {row.split()[0] for row in queue(slurm)}
    [job_folder] = (work / "jobs").iterdir()
    with driver(work, 3) as process:
        wait_until(lambda: len(begun(work)) == 6)
        assert not old & {row.split()[0] for row in queue(slurm)}
        open_gate(work)
        assert process.communicate(timeout=120)[0] == "4 [0, 1, 2]\n"
    assert not job_folder.exists()
    assert not list(work.glob("*/*.partial"))


def test_ctrl_c_cancels_the_jobs(slurm, work: Path) -> None:
    with driver(work, 8) as process:
        wait_until(lambda: len(begun(work)) == 4)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGINT
    assert said.strip().endswith("KeyboardInterrupt")
    wait_until(lambda: not queue(slurm))
    assert len(begun(work)) == 4
    assert not list(work.glob("*/*.partial"))


def test_what_slurm_refuses_is_told(slurm, work: Path) -> None:
    with pytest.raises(ConfigError, match=r"sbatch refused a job array \(.*partition.*\); mend executor\.partition"):
        run(work, [Square(1)], partition="nowhere")
