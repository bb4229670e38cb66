"""`tarmac launch`, `stop` and `resume`: the last two by the run's folder alone."""

import os
import subprocess
import sys
from pathlib import Path

from tests.faults.runs import events, last_step, losses, small_corpus_folder, write_recipe
from tests.integration.conftest import ROOT, environment
from tests.unit.data_prep.executor_tasks import wait_until

LOCAL = str(ROOT / "configs" / "cluster" / "local.yaml")


def tarmac(folder: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipeline.cli", *words]
    variables = {**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        command, cwd=folder, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_a_run_is_launched_stopped_and_resumed(tmp_path: Path) -> None:
    corpus = small_corpus_folder(tmp_path)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    write_recipe(here / "recipe.yaml", corpus, output="my run", duration={"steps": 160})
    run = here / "my run"
    job = tarmac(here, "launch", "recipe.yaml", "--cluster", LOCAL, "tracking.log_every_steps=2")
    wait_until(lambda: job.poll() is not None or last_step(run) >= 10)
    running = tarmac(there, "resume", str(run))
    assert running.wait(60) == 2
    assert "trains now: process" in running.communicate()[1]
    assert tarmac(there, "stop", str(run), "--wait", "60").wait(100) == 0
    assert job.wait(60) == 130, job.communicate()
    again = tarmac(there, "resume", str(run))
    said = again.communicate(timeout=200)
    assert again.returncode == 0, said
    assert f"in {here}: tarmac launch recipe.yaml --cluster {LOCAL} tracking.log_every_steps=2" in said[1]
    assert [row["event"] for row in events(run, "start", "resume")] == ["start", "resume"]
    assert list(losses(run)) == list(range(2, 161, 2))
    (tmp_path / "mine").mkdir()
    never = tarmac(there, "resume", str(tmp_path / "mine"))
    assert never.wait(60) == 2
    assert "has no record of a tarmac launch; give the command again" in never.communicate()[1]
