"""`tarmac launch` by every launcher: what two ranks train is the same bit by bit, whoever started them, and stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.distributed.jobs import free_port
from tests.faults.runs import events, last_step, ledger, losses, small_corpus_folder, write_recipe
from tests.integration.chain_recipes import write, write_chain
from tests.integration.conftest import ROOT, environment
from tests.unit.data_prep.executor_tasks import wait_until

STEPS = 120
CPU = {"environment": {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus_folder(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by the local launcher, never stopped."""
    recipe = write_recipe(tmp_path_factory.mktemp("local") / "run.yaml", corpus, duration={"steps": STEPS})
    (job,) = launch(recipe, {"type": "local", "processes": 2, **CPU}, [()])
    finish([job])
    return recipe.with_suffix("")


def launch(recipe: Path, cluster: Mapping[str, Any], machines: Sequence[Sequence[str]]) -> list[Any]:
    """One `tarmac launch` for each machine, with more words."""
    path = recipe.with_name("cluster.yaml")
    path.write_text(yaml.safe_dump({"cluster": dict(cluster)}))
    words = [sys.executable, "-m", "pipeline.cli", "launch", str(recipe), "--cluster", str(path)]
    variables = {**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return [
        subprocess.Popen([*words, *more], cwd=recipe.parent, env=variables, text=True, stderr=subprocess.PIPE)
        for more in machines
    ]


def finish(jobs: Sequence[Any], status: int = 0, seconds: float = 200) -> None:
    """Wait for the commands; none is left behind."""
    try:
        said = [job.communicate(timeout=seconds)[1] for job in jobs]
    finally:
        for job in jobs:
            job.terminate()
    assert [job.returncode for job in jobs] == [status] * len(jobs), "\n".join(said)


def stop_once(jobs: Sequence[Any], run: Path, signum: signal.Signals) -> None:
    """Ask the last machine's command to stop: all save and end together."""
    wait_until(lambda: last_step(run) >= 15 or any(job.poll() is not None for job in jobs))
    jobs[-1].send_signal(signum)
    finish(jobs, 85)


def require_equal(run: Path, expected: Path) -> None:
    assert losses(run) == losses(expected)
    for rank in (0, 1):
        assert ledger(run, rank) == ledger(expected, rank)


def torchrun(nodes: int) -> dict[str, Any]:
    return {"type": "torchrun", "nodes": nodes, "processes": 2 // nodes, "endpoint": f"127.0.0.1:{free_port()}", **CPU}


def hostfile(folder: Path) -> dict[str, Any]:
    (folder / "hosts").write_text("one slots=1\ntwo slots=1\n")
    meeting = {"master_addr": "127.0.0.1", "master_port": free_port()}
    return {"type": "deepspeed", "hostfile": "hosts", "ssh": False, **meeting, **CPU}


@pytest.mark.parametrize(
    ("cluster", "machines", "signum"),
    [
        (lambda folder: torchrun(1), [()], signal.SIGUSR1),
        (lambda folder: torchrun(2), [("--node-rank", "0"), ("--node-rank", "1")], signal.SIGTERM),
        (lambda folder: torchrun(2), [(), ()], signal.SIGUSR1),
        (hostfile, [("--node-rank", "0"), ("--node-rank", "1")], signal.SIGTERM),
    ],
    ids=["torchrun", "torchrun-2-machines", "torchrun-2-machines-agree", "hostfile-2-machines"],
)
def test_stopped_and_started_again(
    cluster: Callable[[Path], dict[str, Any]],
    machines: list[tuple[str, ...]],
    signum: signal.Signals,
    corpus: Path,
    expected: Path,
    tmp_path: Path,
) -> None:
    recipe = write_recipe(tmp_path / "run.yaml", corpus, duration={"steps": STEPS})
    run = recipe.with_suffix("")
    stop_once(launch(recipe, cluster(tmp_path), machines), run, signum)
    finish(launch(recipe, cluster(tmp_path), machines))
    first, second = events(run, "start", "resume")
    assert second["step"] >= 15 > first["step"]
    require_equal(run, expected)


def test_a_killed_rank_is_told_by_both_machines(corpus: Path, tmp_path: Path) -> None:
    import psutil

    recipe = write_recipe(tmp_path / "run.yaml", corpus, duration={"steps": 100_000})
    jobs = launch(recipe, torchrun(2), [("--node-rank", "0"), ("--node-rank", "1")])
    wait_until(lambda: last_step(recipe.with_suffix("")) >= 15 or any(job.poll() is not None for job in jobs))
    [rank] = [one for one in psutil.Process(jobs[1].pid).children(recursive=True) if "RANK" in one.environ()]
    rank.kill()
    said = [job.communicate(timeout=200)[1] for job in jobs]
    assert jobs[1].returncode == 247
    assert "a rank was killed by SIGKILL; the same command resumes" in said[1]
    assert jobs[0].returncode == 1, said[0]


@pytest.mark.timeout(900)
def test_a_chain_is_stopped_in_its_middle_and_goes_on(tmp_path: Path) -> None:
    recipes = write_chain(tmp_path, num_steps=60)
    chain = write(tmp_path / "chain.yaml", {"chain": [{"recipe": str(path)} for path in recipes.values()]})
    cluster = {"type": "local", "processes": 2, **CPU}
    jobs = launch(chain, cluster, [()])
    stop_once(jobs, tmp_path / "train", signal.SIGTERM)
    assert not (tmp_path / "finetune").exists()
    finish(launch(chain, cluster, [()]), seconds=700)
    assert [row["event"] for row in events(tmp_path / "train", "start", "resume", "end")][:3] == [
        "start",
        "end",
        "resume",
    ]
    assert list(losses(tmp_path / "train")) == list(range(1, 61))
    assert list(losses(tmp_path / "finetune")) == [1, 2, 3]
    assert len((tmp_path / "train" / "evaluations.jsonl").read_text().splitlines()) == 1
