"""W&B that is not there, hangs, breaks, or whose processes are killed: training does not notice, and no row is lost.

Real W&B, against a server of our own; every run is a process.
"""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.train.tracking.wandb import FINISH_SECONDS
from tests.faults.logging_runs import ROOT, Logging, environment, kept, logged, wait_until
from tests.faults.runs import Job, rows, write_recipe
from tests.faults.wandb_files import rows_in_files
from tests.faults.wandb_server import KEY, WandbServer

STEPS = list(range(1, 41))
NOWHERE = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}


def sync(server: WandbServer, run: Path, *words: str) -> list[int]:
    """Send W&B's folders as its user would; the steps that the server then has of the run."""
    command = [sys.executable, "-m", "wandb", "sync", *words]
    subprocess.run(command, cwd=run, env=environment(server.environment), check=True, timeout=60, capture_output=True)
    (lines,) = server.lines.values()
    return [line["step"] for line in lines if "train/loss" in line]


def offline_folders(run: Path) -> list[str]:
    return sorted(map(str, run.glob("wandb/offline-run-*")))


@pytest.fixture
def server() -> Iterator[WandbServer]:
    server = WandbServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def outages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Logging]:
    """What became of runs whose W&B failed in one way or another, all at the same time."""
    folder = tmp_path_factory.mktemp("outages")
    servers = {state: WandbServer(state) for state in ("silent", "broken", "well")}
    places = {"nowhere": NOWHERE, **{state: server.environment for state, server in servers.items()}}
    places["stopped"] = places.pop("well")
    runs = {name: Logging(folder / name, STEPS[0], STEPS[-1], **place) for name, place in places.items()}
    runs["stopped"].helper("tracking.relay").send_signal(signal.SIGSTOP)
    done = {name: run.done() for name, run in runs.items()}
    assert all(server.requests for state, server in servers.items() if state != "well")
    for server in servers.values():
        server.close()
    return done


@pytest.mark.parametrize("outage", ["nowhere", "silent", "broken"])
def test_without_an_answer_rows_are_kept_for_later(outages: dict[str, Logging], outage: str) -> None:
    run = outages[outage]
    assert run.longest < 0.5
    assert run.finish < FINISH_SECONDS
    assert logged(run.run) == STEPS
    assert kept(run.run) == STEPS
    (warning,) = run.warnings
    assert "W&B is offline (CommError: " in warning
    assert "tarmac sync" in warning


def test_rows_that_were_kept_can_be_sent(outages: dict[str, Logging], server: WandbServer) -> None:
    run = outages["nowhere"].run
    assert sync(server, run, *offline_folders(run)) == STEPS


def test_a_hang_holds_up_the_end_for_a_bounded_time_and_the_next_session_hands_all_rows_over(
    outages: dict[str, Logging], server: WandbServer
) -> None:
    run = outages["stopped"]
    assert run.longest < 0.5
    assert FINISH_SECONDS <= run.finish < FINISH_SECONDS + 1
    assert logged(run.run) == STEPS
    assert kept(run.run) == []
    (warning,) = run.warnings
    assert f"W&B is off (it had not ended after {FINISH_SECONDS:.0f} s)" in warning
    assert "metrics.jsonl" in warning
    Logging(run.run, STEPS[-1] - 5, STEPS[-1] + 2, **server.environment).done()
    (lines,) = server.lines.values()
    assert [line["step"] for line in lines] == [*STEPS, STEPS[-1] + 1, STEPS[-1] + 2]
    times = {row["step"]: row["time"] for row in reversed(rows(run.run / "metrics.jsonl"))}
    assert [line["_timestamp"] for line in lines] == sorted(times.values())


@pytest.mark.parametrize("helper", ["wandb-core", "tracking.relay"])
def test_a_killed_helper_is_replaced_and_no_row_is_lost(tmp_path: Path, helper: str) -> None:
    run = Logging(tmp_path / "run", 1, 200, pause=0.04)
    run.helper("wandb-core")
    time.sleep(2)
    run.helper(helper).kill()
    run.done()
    assert run.longest < 0.5
    assert logged(run.run) == list(range(1, 201))
    assert set(kept(run.run)) == set(range(1, 201))
    (warning,) = run.warnings
    assert "is started again" in warning


def test_what_tells_training_to_stop_does_not_stop_its_helpers(tmp_path: Path) -> None:
    """Schedulers send it to every process of a job."""
    run = Logging(tmp_path / "run", 1, 100, pause=0.04)
    run.helper("wandb-core")
    time.sleep(2)
    for process in run.helpers():
        process.send_signal(signal.SIGUSR1)
    run.helper("tracking.relay").send_signal(signal.SIGTERM)
    assert run.done().warnings == []
    assert kept(run.run) == list(range(1, 101))


@pytest.mark.parametrize("num_rows", [5, 80])
def test_a_killed_run_loses_no_row_and_sends_none_twice(tmp_path: Path, server: WandbServer, num_rows: int) -> None:
    """W&B's own process ends with the one that started it and drops what it holds in memory; ours does not.

    Killed early, the first process for W&B is not ready yet when the run goes on.
    """
    first = Logging(tmp_path / "run", 1, 10_000)
    wait_until(lambda: len(logged(first.run)) >= num_rows)
    first.kill()
    last = logged(first.run)[-1]
    Logging(first.run, max(1, last - 20), last + 20).done()
    assert kept(first.run) == list(range(1, last + 21))
    assert sync(server, first.run, *offline_folders(first.run)) == list(range(1, last + 21))


def test_two_sessions_of_a_run_do_not_send_at_the_same_time(tmp_path: Path) -> None:
    """W&B's server would write the rows of one over those of the other."""
    first = Logging(tmp_path / "run", 1, 10_000)
    first.helper("wandb-core")
    relay = first.helper("tracking.relay")
    wait_until(lambda: len(logged(first.run)) >= 60)
    relay.suspend()
    first.kill()
    last = logged(first.run)[-1]
    second = Logging(first.run, last + 1, last + 100)
    second.helper("tracking.relay")
    time.sleep(3)
    begun = [process.name() for process in second.helpers()]
    relay.resume()
    assert "wandb-core" not in begun
    second.done()
    assert kept(first.run) == list(range(1, last + 101))


def test_a_server_that_dies_during_training(tmp_path: Path, corpus: Path, server: WandbServer) -> None:
    recipe = write_recipe(tmp_path / "run.yaml", corpus, duration={"steps": 100}, tracking={"log_every_steps": 2},
                          checkpoints={"every_steps": 1000})  # fmt: skip
    with Job(recipe, 1, environment=server.environment) as job:
        wait_until(lambda: server.requests >= 3)
        server.state = "silent"
        job.wait_until(lambda: '"end"' in (job.run / "journal.jsonl").read_text())
        ended = time.monotonic()
        job.done()
        assert time.monotonic() - ended < FINISH_SECONDS + 5
        said = job.said()
    steps, arrived = list(range(2, 101, 2)), 30
    assert logged(job.run) == steps
    (words,) = re.findall(r"W&B: not all was sent within 20 s; send it with `tarmac (sync .*)`", said)
    assert len(re.findall("W&B", said)) == 1
    assert not server.lines
    lines = server.lines[(job.run / "run_id").read_text()] = rows_in_files(job.run)[:arrived]  # as if it got a part
    server.state = "well"
    command = [sys.executable, "-m", "pipeline.cli", *words.split()]
    variables = environment({"COLUMNS": "200", **server.environment})
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=True)
    assert f"sent ({arrived} rows were there)" in done.stdout
    assert [line["step"] for line in lines if "train/loss" in line] == steps
