"""A chain on two nodes of a real SLURM: one command, and each stage begins when the one before has succeeded."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import cli
from tests.distributed.jobs import free_port
from tests.faults.runs import events, last_step, losses
from tests.integration.chain_recipes import write, write_chain
from tests.system.slurm_cluster import SlurmCluster

STEPS = 120
WAIT_SECONDS = 240
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def recipes(tmp_path: Path) -> dict[str, Path]:
    arrays = {"type": "slurm", "memory_gb": 1, "poll_seconds": 1, "sbatch": {"mem": "200M"}}
    return write_chain(tmp_path, STEPS, workers=2, executor=arrays)


@pytest.fixture
def chain(slurm: SlurmCluster, recipes: dict[str, Path], tmp_path: Path, capsys) -> Iterator[Callable[..., Any]]:
    """Submits the recipes as a chain; the job of each step. What is left in the queue goes."""

    def submit(**overrides: list[str]) -> dict[str, str]:
        cluster = {"type": "slurm", "nodes": 2, "gpus_per_node": 1, "cpus_per_task": 1, "time": "0:20:00",
                   "environment": {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
                   "log_dir": str(tmp_path / "logs"), "master_port": free_port(), "health": None}  # fmt: skip
        steps = [{"recipe": str(path), "overrides": overrides.get(name, [])} for name, path in recipes.items()]
        command = [str(write(tmp_path / "chain.yaml", {"chain": steps})), "--cluster",
                   str(write(tmp_path / "cluster.yaml", {"cluster": cluster}))]  # fmt: skip
        assert cli.main(["launch", *command]) == 0
        table = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
        return {line[0]: line[1] for line in table}

    yield submit
    slurm.run("scancel", "--user=root")
    slurm.wait_until(lambda: not slurm.run("squeue", "--noheader"), "the queue is empty")


def wait_until(condition: Callable[[], object], folder: Path) -> None:
    """Wait for something that the queue does; fails with all logs."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        logs = [f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(folder.glob("logs/*"))]
        assert time.monotonic() < deadline, "\n".join(logs)
        time.sleep(0.2)


def state(slurm: SlurmCluster, job: str) -> str:
    return slurm.run("squeue", "--noheader", "--format=%T", "--states=all", f"--jobs={job}")


def test_prep_train_requeued_finetune_eval(slurm, chain, tmp_path: Path) -> None:
    jobs = chain()
    run = tmp_path / "train"
    waits = slurm.run("squeue", "--noheader", "--format=%i %E", f"--jobs={jobs['eval']}")
    assert waits == f"{jobs['eval']} afterok:{jobs['finetune']}(unfulfilled)"
    wait_until(lambda: last_step(run) >= 30 or state(slurm, jobs["eval"]) == "CANCELLED", tmp_path)
    slurm.run("scontrol", "requeue", jobs["train"])
    assert state(slurm, jobs["finetune"]) == "PENDING"
    wait_until(lambda: state(slurm, jobs["eval"]) in ("COMPLETED", "FAILED", "CANCELLED"), tmp_path)
    told = slurm.run("squeue", "--states=all", "--format=%i %j %T", f"--jobs={','.join(jobs.values())}")
    assert {name: state(slurm, job) for name, job in jobs.items()} == dict.fromkeys(jobs, "COMPLETED"), told
    assert cli.main(["verify", str(tmp_path / "corpus")]) == 0
    assert [row["event"] for row in events(run, "start", "resume")] == ["start", "resume"]
    assert list(losses(run)) == list(range(1, STEPS + 1))
    assert len(losses(tmp_path / "finetune")) == 3
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [row["model"] for row in figures["figures"]] == ["trained", "tuned"]


def test_a_killed_array_task_fails_prep_and_what_waits_for_it_and_the_same_chain_goes_on(
    slurm, chain, tmp_path: Path
) -> None:
    jobs = chain()
    wait_until(lambda: kill_array_task(slurm), tmp_path)
    wait_until(lambda: state(slurm, jobs["eval"]) == "CANCELLED", tmp_path)
    assert state(slurm, jobs["prep"]) == "FAILED"
    assert state(slurm, jobs["train"]) == state(slurm, jobs["finetune"]) == "CANCELLED"
    assert not (tmp_path / "train" / "config.yaml").exists()
    again = chain()
    wait_until(lambda: state(slurm, again["prep"]) in ("COMPLETED", "FAILED"), tmp_path)
    assert state(slurm, again["prep"]) == "COMPLETED"
    assert cli.main(["verify", str(tmp_path / "corpus")]) == 0


def kill_array_task(slurm: SlurmCluster) -> bool:
    """SIGKILL to a Python of a job array, as the kernel does where memory is short; whether there was one."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            variables = process.environ()
            is_task = "SLURM_ARRAY_TASK_ID" in variables and slurm.environment.items() <= variables.items()
            if is_task and process.name().startswith("python"):
                process.kill()
                return True
    return False
