"""Training on the two hosts of a hostfile through DeepSpeed's launcher, over pdsh and a real ssh."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from tests.distributed.jobs import free_port
from tests.faults.runs import Job, events, last_step, ledger, losses, small_corpus_folder, write_recipe
from tests.integration.conftest import ROOT, environment
from tests.system.sshd import HOSTS, ssh_hosts
from tests.unit.data_prep.executor_tasks import wait_until

STEPS = 120


def test_stopped_through_the_run_folder_and_started_again(tmp_path: Path) -> None:
    """The name of the run would not survive a shell."""
    corpus = small_corpus_folder(tmp_path)
    recipe = write_recipe(tmp_path / "recipe.yaml", corpus, duration={"steps": STEPS})
    run = tmp_path / "it's $HOME's"
    (tmp_path / "hosts").write_text("".join(f"{host} slots=1\n" for host in HOSTS))
    cluster = {"type": "deepspeed", "hostfile": "hosts", "master_addr": "127.0.0.1", "master_port": free_port(),
               "environment": {"OMP_NUM_THREADS": "1"}}  # fmt: skip
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump({"cluster": cluster}))
    words = ["launch", str(recipe), f"output={run}", "--cluster", "cluster.yaml"]
    with ssh_hosts() as variables:
        job = tarmac(tmp_path, variables, *words)
        wait_until(lambda: last_step(run) >= 15 or job.poll() is not None)
        job.send_signal(signal.SIGTERM)
        said = job.communicate(timeout=120)
        assert job.returncode == 85, said
        assert not (run / "stop").exists()
        again = tarmac(tmp_path, variables, *words)
        said = again.communicate(timeout=200)
        assert again.returncode == 0, said
    first, second = events(run, "start", "resume")
    assert second["step"] >= 15 > first["step"]
    with Job(write_recipe(tmp_path / "plain.yaml", corpus, duration={"steps": STEPS})) as plain:
        plain.done(200)
    assert losses(run) == losses(plain.run)
    assert ledger(run, 1) == ledger(plain.run, 1)


def tarmac(folder: Path, variables: dict[str, str], *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipeline.cli", *words]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(command, cwd=folder, env={**environment(), **variables, "PYTHONPATH": path}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
