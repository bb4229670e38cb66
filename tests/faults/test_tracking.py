"""What reaches W&B and TensorBoard of a run that is told to stop, killed, rolled back and goes on.

W&B is real, against a server of our own; every run is a process.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.faults.logging_runs import ROOT, environment
from tests.faults.runs import Job, events, rows, write_recipe
from tests.faults.test_spikes import NOISE, settings
from tests.faults.wandb_server import WandbServer

WANDB = {"entity": "team", "project": "tests", "name": "one", "group": "faults", "tags": ["small"], "notes": "a run"}
TRACKING = {"log_every_steps": 1, "tensorboard": True, "per_rank": True, "wandb": WANDB}


@pytest.fixture(scope="module")
def server() -> Iterator[WandbServer]:
    server = WandbServer()
    yield server
    server.close()


def noisy(recipe: Path, **more: str) -> Job:
    return Job(recipe, 2, call="tests.faults.injected:noisy", more=NOISE, environment=more)


def sync(*runs: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.cli", "sync", *map(str, runs)]
    variables = environment({"COLUMNS": "200", **more})
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus: Path, server: WandbServer) -> Path:
    """Offline: told to stop, killed, through a spike to its end. Then all is sent, twice, and it goes on online."""
    samples = {"prompts": ["The", "A"], "every_steps": 20, "max_tokens": 4}
    evaluation = {"every_steps": 1000, "max_sequences": 8, "samples": samples}
    changes = {**settings(), "tracking": TRACKING, "evaluation": evaluation}
    changes["checkpoints"] = {"every_steps": 2, "keep_last": 100}
    recipe = write_recipe(tmp_path_factory.mktemp("tracking") / "run.yaml", corpus, **changes)
    with noisy(recipe) as job:
        job.wait_for_step(10)
        job.send(signal.SIGUSR1, 1)
        assert job.wait() == [85, 85]
    with noisy(recipe) as job:
        job.wait_for_step(25)
        for rank in (0, 1):
            job.send(signal.SIGKILL, rank)
        job.wait()
    with noisy(recipe) as job:
        job.done()
    for _ in range(2):
        sent = sync(job.run, **server.environment)
        assert sent.returncode == 0, sent.stderr
    assert sent.stdout.count("was sent before") == 3
    recipe = write_recipe(recipe, corpus, **{**changes, "duration": {"steps": 90}})
    with noisy(recipe, **server.environment) as job:
        job.done()
    return job.run


def of_branches(run: Path) -> list[tuple[int, int, float]]:
    """Branch, step and loss of each row of training, without those that were done again."""
    begun = [event["time"] for event in events(run, "rollback")]
    found = {}
    for row in rows(run / "metrics.jsonl"):
        if "train/loss" in row:
            found.setdefault((sum(time <= row["time"] for time in begun), row["step"]), row["train/loss"])
    return [(branch, step, loss) for (branch, step), loss in found.items()]


def config_of(server: WandbServer, run_id: str) -> dict[str, Any]:
    return {key: one["value"] for key, one in json.loads(server.runs[run_id]["config"]).items()}


def test_all_restarts_are_one_run_and_each_row_is_there_once(run: Path, server: WandbServer) -> None:
    (run_id,) = server.lines
    assert run_id == (run / "run_id").read_text()
    lines = server.lines[run_id]
    got = [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]
    assert got == [(step, loss) for _, step, loss in of_branches(run)]
    assert {branch for branch, _, _ in of_branches(run)} == {0, 1}
    counted = [line["_step"] for line in lines]
    assert counted == sorted(set(counted))


def test_wandb_knows_whose_run_it_is_and_by_what_it_was_made(run: Path, server: WandbServer) -> None:
    ((run_id, told),) = server.runs.items()
    names = {"groupName": "faults", "jobType": "pretrain", "displayName": "one", "notes": "a run", "tags": ["small"]}
    assert {name: told[name] for name in names} == names
    assert (told["entity"], told["project"]) == ("team", "tests")
    assert "repo" not in told
    config = config_of(server, run_id)
    assert config["tracking"]["wandb"]["group"] == "faults"
    code = config["environment"]["code"]
    assert code["tarmac"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert code["commit"] == (head or None)


def test_people_are_told_once_of_what_happened(run: Path, server: WandbServer) -> None:
    (spike,) = events(run, "spike")
    titles = ["requeue", "gone", f"loss spike at step {spike['step']}", "rollback to step 42", "done", "done"]
    assert [alert["title"] for alert in server.alerts] == titles
    assert [alert["severity"] for alert in server.alerts] == ["INFO", "ERROR", "WARN", "WARN", "INFO", "INFO"]


def test_checkpoints_are_references_and_the_latest_is_the_one_the_run_stands_on(run: Path, server: WandbServer) -> None:
    found = [one for one in server.artifacts if one["artifactTypeName"] == "model"]
    assert {one["artifactCollectionName"] for one in found} == {f"checkpoint-{(run / 'run_id').read_text()}"}
    assert all("latest" in {alias["alias"] for alias in one["aliases"]} for one in found)
    told = [json.loads(one["metadata"]) for one in found]
    saved = [(event["branch"], event["step"]) for event in events(run, "save")]
    back = next(place for place, one in enumerate(told) if one["branch"] == 1) - 1
    assert (told[back]["branch"], told[back]["step"]) == (0, 42)  # again, and it is the same to W&B
    announced = [(one["branch"], one["step"]) for one in told[:back] + told[back + 1 :]]
    assert len(announced) == len(set(announced))
    assert set(announced) >= {one for one in saved if one[0] == 1 or one[1] <= 42}
    manifest = found[-1]["manifest"]
    commit = json.loads((run / "checkpoints" / "step-00000090" / "COMMIT.json").read_bytes())
    for file in commit["files"]:
        entry = manifest[file["name"]]
        assert entry["digest"] == file["sha256"]
        assert Path(entry["ref"].removeprefix("file://")).stat().st_size == file["bytes"]
    assert not [name for name in server.uploads if "safetensors" in name]


def test_the_corpus_is_a_reference(corpus: Path, run: Path, server: WandbServer) -> None:
    (found,) = (one for one in server.artifacts if one["artifactTypeName"] == "corpus")
    digest = sha256((corpus / "manifest.json").read_bytes()).hexdigest()
    assert json.loads(found["metadata"])["manifest_sha256"] == digest
    assert found["manifest"]["manifest.json"]["ref"] == (corpus / "manifest.json").as_uri()
    assert found["manifest"]["manifest.json"]["digest"] == digest


def test_samples_are_tables(run: Path, server: WandbServer) -> None:
    (lines,) = server.lines.values()
    tables = {line["step"]: json.loads(server.uploads[line["samples"]["path"]]) for line in lines if "samples" in line}
    assert list(tables) == [20, 40, 60, 80, 90]
    for step, table in tables.items():
        written = [row for row in rows(run / "samples.jsonl") if row["step"] == step][-2:]
        assert table["columns"] == ["step", "prompt", "continuation", "temperature"]
        assert table["data"] == [[row[name] for name in table["columns"]] for row in written]


def test_each_rank_has_its_own_figures(run: Path, server: WandbServer) -> None:
    (lines,) = server.lines.values()
    for rank in (0, 1):
        assert all(line[f"rank/{rank}/own_seconds"] > 0 for line in lines if f"rank/{rank}/memory_bytes" in line)
        assert sum(f"rank/{rank}/memory_bytes" in line for line in lines) > 80


def test_tensorboard_has_the_steps_of_the_last_branch_once(run: Path) -> None:
    read = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    got = [(event.step, event.value) for event in read.Scalars("train/loss")]
    last = {row["step"]: row["train/loss"] for row in rows(run / "metrics.jsonl") if "train/loss" in row}
    assert [step for step, _ in got] == list(range(1, 91))
    assert [value for _, value in got] == pytest.approx([last[step] for step in range(1, 91)])


def test_without_a_key_or_a_server_one_sentence_says_so(run: Path, tmp_path: Path) -> None:
    nobody = {"WANDB_BASE_URL": "http://127.0.0.1:9"}
    for more, sentence in (
        ({"HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}, "there is no key for W&B at http://127.0.0.1:9"),
        ({"WANDB_API_KEY": "x" * 40}, "W&B at http://127.0.0.1:9 does not answer"),
    ):
        done = sync(run, **nobody, **more)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
