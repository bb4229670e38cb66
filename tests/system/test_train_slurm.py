"""Training on two nodes of a real SLURM: whatever ends a job, it comes back and goes on with the very next sample."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from pipeline import cli
from tests.distributed.jobs import free_port
from tests.faults.runs import Job, events, last_step, ledger, losses, small_corpus_folder, write_recipe
from tests.system.slurm_cluster import SlurmCluster

WAIT_SECONDS = 240
SLOW = {"batch": {"global_size": 48, "micro_size": 2}, "duration": {"steps": 100_000},
        "checkpoints": {"every_steps": 20, "keep_last": 6},
        "tracking": {"log_every_steps": 1, "wandb": {"mode": "offline"}}}  # fmt: skip
"""Some 12 forward passes a step on each rank."""


class Submitted:
    """A run that was launched on the cluster."""

    def __init__(self, slurm: SlurmCluster, recipe: Path, said: str) -> None:
        self._slurm, self.id, self.recipe, self.run = slurm, said.strip(), recipe, recipe.with_suffix("")

    @property
    def state(self) -> str:
        return self._slurm.run("squeue", "--noheader", "--format=%T", "--states=all", f"--jobs={self.id}")

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.recipe.parent.rglob("*.log"))
        )

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"waited until {what}; {self.state}\n{self.logs()}"
            time.sleep(0.2)

    def wait_for_start(self, number: int, steps: int = 10) -> None:
        """Until the job runs for that often, and has made some steps since."""
        self.wait_until(lambda: len(events(self.run, "start", "resume")) == number, f"start {number}")
        first = events(self.run, "start", "resume")[-1]["step"]
        self.wait_until(lambda: last_step(self.run) >= first + steps, f"step {first + steps}")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus_folder(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def launch(slurm: SlurmCluster, corpus: Path, tmp_path: Path, capsys) -> Iterator[Callable[..., Submitted]]:
    """Submits a run by `tarmac launch`; what is left in the queue goes."""

    def submit(changes: dict[str, object] | None = None, **cluster: object) -> Submitted:
        recipe = write_recipe(tmp_path / "run.yaml", corpus, **{**SLOW, **(changes or {})})
        block = {"type": "slurm", "nodes": 2, "gpus_per_node": 1, "cpus_per_task": 1, "signal_seconds": 0,
                 "time": "0:20:00", "health": None, "master_port": free_port(),
                 "environment": {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
                 "log_dir": str(tmp_path / "logs"), **cluster}  # fmt: skip
        (tmp_path / "cluster.yaml").write_text(yaml.safe_dump({"cluster": block}))
        assert cli.main(["launch", str(recipe), "--cluster", str(tmp_path / "cluster.yaml")]) in (0, None)
        return Submitted(slurm, recipe, capsys.readouterr().out)

    yield submit
    slurm.run("scancel", "--user=root")
    slurm.wait_until(lambda: not slurm.run("squeue", "--noheader"), "the queue is empty")


def require_exact(job: Submitted, tmp_path: Path, corpus: Path) -> None:
    """All that was trained is what an uninterrupted run of two local ranks trains, sample by sample and bit by bit."""
    trained = losses(job.run)
    plain = write_recipe(tmp_path / "plain.yaml", corpus, **{**SLOW, "duration": {"steps": max(trained)}})
    with Job(plain) as local:
        local.done(200)
    assert list(trained) == list(range(1, max(trained) + 1))
    expected = losses(local.run)
    assert trained == expected
    for rank in (0, 1):
        assert {step: one for step, one in ledger(job.run, rank).items() if step in expected} == ledger(local.run, rank)


def test_a_time_limit_ends_in_a_save_and_the_job_comes_back(slurm, launch, tmp_path: Path, corpus: Path) -> None:
    job = launch(time="0:03:00", signal_seconds=120)
    assert job.id.isdigit()
    job.wait_for_start(2)
    slurm.run("scancel", job.id)
    (end,) = events(job.run, "end")[:1]
    first, second = events(job.run, "start", "resume")[:2]
    assert (first["event"], second["event"]) == ("start", "resume")
    assert second["step"] == end["step"] > 0  # what was saved when the signal came, not the checkpoint before it
    assert first["world_size"] == second["world_size"] == 2
    require_exact(job, tmp_path, corpus)


def test_requeued_preempted_and_after_the_death_of_a_rank_and_a_node(
    slurm, launch, tmp_path: Path, corpus: Path
) -> None:
    """One job is asked to stop as it starts, is requeued, preempted, loses a rank and loses a node, in turn."""
    job = launch(partition="low")
    job.wait_until(lambda: job.state == "RUNNING", "it runs")
    while job.state == "RUNNING":  # before it trains, if not before Python runs
        slurm.run("scancel", "--signal=USR1", job.id)
        time.sleep(0.5)
    early = len(events(job.run, "start", "resume"))
    job.wait_for_start(early + 1, steps=25)
    slurm.run("scontrol", "requeue", job.id)
    job.wait_for_start(early + 2)
    urgent = slurm.run(
        "sbatch",
        "--parsable",
        "--partition=high",
        "--nodes=2",
        "--gpus-per-node=4",
        "--output=/dev/null",
        "--wrap=sleep 5",
    )
    job.wait_until(lambda: not slurm.run("squeue", "--noheader", f"--jobs={urgent}", "--states=all", "--format=%T")
                   .startswith("PENDING"), "the urgent job runs")  # fmt: skip
    job.wait_for_start(early + 3)
    kill_rank(job.run)
    job.wait_for_start(early + 4)
    slurm.kill_node("n2")
    job.wait_until(lambda: job.state != "RUNNING", "the death of the node is seen")
    slurm.start_node("n2")
    job.wait_for_start(early + 5)
    slurm.run("scancel", job.id)
    assert [row["event"] for row in events(job.run, "start", "resume")] == ["start", *["resume"] * (early + 4)]
    assert len(ids(job.run)) == 1
    require_exact(job, tmp_path, corpus)


def test_a_node_that_is_not_fit_is_left_out(slurm, launch, tmp_path: Path) -> None:
    """Node n1 has lost its GPU: only there is training told to use one."""
    setup = [f"PATH={Path(sys.executable).parent}:$PATH", "[ $SLURMD_NODENAME = n1 ] || export DS_ACCELERATOR=cpu"]
    job = launch({"duration": {"steps": 3}}, nodes=1, health={"timeout_seconds": 60}, setup=setup, environment={})
    job.wait_until(lambda: events(job.run, "end"), "it has trained on the other node")
    assert "tarmac: node n1: 0 GPUs are visible, local rank 0 has none. Leave out what" in job.logs()
    shown = slurm.run("scontrol", "show", "job", job.id).split()
    assert {"ExcNodeList=n1", "NodeList=n2", "Restarts=1"} <= set(shown), shown
    assert last_step(job.run) == 3


def test_a_node_whose_ranks_die_at_once_is_left_out(slurm, launch, tmp_path: Path) -> None:
    """Node n2 has no Python: srun's status is that of its rank, 127, and rank 0 alone knows who did not come."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(
        f'#!/bin/sh\n[ "$SLURMD_NODENAME" = n2 ] && exit 127\nexec {sys.executable} "$@"\n'
    )
    (tmp_path / "bin" / "python").chmod(0o755)
    job = launch(health={"timeout_seconds": 10}, setup=[f"PATH={tmp_path}/bin:$PATH"])
    job.wait_until(lambda: "ExcNodeList=n2" in slurm.run("scontrol", "show", "job", job.id).split(), "n2 is left out")
    job.wait_until(lambda: job.state == "PENDING", "it waits for another node")
    assert "tarmac: node n2: rank 1 did not come. Leave out what" in job.logs()
    assert not events(job.run)


def kill_rank(run: Path) -> None:
    """SIGKILL to the process that holds the run's lock, as the kernel does where memory is short."""
    os.kill(json.loads((run / "lock").read_text())["pid"], signal.SIGKILL)


def ids(run: Path) -> set[str]:
    """Of W&B, in what each start wrote."""
    return {path.name.rpartition("-")[2] for path in (run / "wandb").glob("offline-run-*")}
