"""Real processes that hang in one way or another, under a watchdog of 1 s."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RunError
from pipeline.runtime import watchdog
from pipeline.runtime.ranks import Ranks
from pipeline.runtime.stacks import Answer, Stacks, summary
from pipeline.runtime.watchdog import EXIT_HANG, Watchdog

ROOT = Path(__file__).parents[3]
CHILD = """
import ctypes, os, resource, sys, threading, time
from pathlib import Path
from pipeline.runtime import watchdog
from pipeline.runtime.logs import set_up_logging
from pipeline.runtime.ranks import Ranks

run, rank, world_size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
seconds, answer_seconds = float(os.environ.get("SECONDS", "1")), float(os.environ.get("ANSWER", "0.8"))
ranks = Ranks(rank, rank, world_size)
set_up_logging(ranks)

def is_alarm_raised():
    return "this start" in (run / "stacks" / "alarm.txt").read_text()

def work(beat):
{body}

def abort():
    {abort}

with watchdog.Watchdog(run, ranks, seconds, "this start", abort, answer_seconds) as dog:
    print("started", flush=True)
    while not (run / "go").exists():
        dog.beat("starting")
        time.sleep(0.02)
    dog.beat("step 3: forward")
    work(dog.beat)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a rank under a watchdog; its main thread runs `body` as soon as the file `go` is there."""
    started = []

    def start(
        body: str, rank: int = 0, world_size: int = 1, abort: str = "pass", run: Path = tmp_path, **environment: str
    ) -> "subprocess.Popen[str]":
        code = CHILD.format(body="\n".join(f"    {line}" for line in body.splitlines()), abort=abort)
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(run), str(rank), str(world_size)],
            cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        if world_size == 1:
            go(run)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def go(run: Path) -> None:
    (run / "go").touch()


def told(run: Path, rank: int = 0) -> tuple[dict[str, Any], str]:
    header, _, text = (run / "stacks" / f"rank-{rank:05d}.txt").read_text().partition("\n")
    return json.loads(header), text


HANGS = {
    "sleep": "time.sleep(60)",
    "lock": "threading.Lock().acquire(); threading.Semaphore(0).acquire()",
    "pipe": "os.read(os.pipe()[0], 1)",
    "busy": "while True: pass",
}


def test_a_rank_without_progress_tells_where_it_is_and_ends(tmp_path: Path, start: Start) -> None:
    jobs = {}
    for kind, hang in HANGS.items():
        (tmp_path / kind).mkdir()
        jobs[kind] = start(f"def deep_inside():\n    {hang}\ndeep_inside()", run=tmp_path / kind)
    for kind, process in jobs.items():
        assert_told(tmp_path / kind, process)


def assert_told(run: Path, process: "subprocess.Popen[str]") -> None:
    began, host = time.monotonic(), socket.gethostname()
    _, error = process.communicate(timeout=20)
    assert process.returncode == EXIT_HANG == 86
    assert time.monotonic() - began < 10
    assert re.search(
        rf"a rank makes no progress; rank 0 on {host} was in 'step 3: forward' for 1 s\n"
        rf".* hang: rank 0 on {host} in 'step 3: forward' for 1 s; stacks are in {run}/stacks\n$",
        error,
    )
    header, text = told(run)
    assert header.pop("time") == pytest.approx(time.time(), abs=20)
    assert 1 <= header.pop("seconds") < 1.5
    assert header == {"job": "this start", "rank": 0, "host": host, "pid": process.pid, "doing": "step 3: forward"}
    assert re.match(r"Thread MainThread \(0x\w+\), most recent call last:\n  File .*, in <module>\n", text)
    assert "in work.<locals>.deep_inside\n" in text


def test_beats_keep_it_quiet(tmp_path: Path, start: Start) -> None:
    process = start("for step in range(8):\n    beat(f'step {step}')\n    time.sleep(0.3)")
    _, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (0, "")
    assert told(tmp_path)[1] == ""


def test_all_threads_are_told_but_no_values(tmp_path: Path, start: Start) -> None:
    body = """\
def reading_ahead(token):
    time.sleep(60)
threading.Thread(target=reading_ahead, args=("canary-4711",), name="ahead", daemon=True).start()
password = "canary-4711"
time.sleep(60)"""
    process = start(body)
    _, error = process.communicate(timeout=20)
    text = told(tmp_path)[1]
    assert "Thread ahead (0x" in text
    assert "in work.<locals>.reading_ahead\n" in text
    assert "canary" not in text + error
    assert text.count("most recent call last") == 2  # none of its own


def test_a_stopped_rank_is_named_by_the_others(tmp_path: Path, start: Start) -> None:
    first = start("time.sleep(60)", rank=0, world_size=3)
    stopped = start("time.sleep(60)", rank=1, world_size=3)
    third = start("time.sleep(60)", rank=2, world_size=3)
    os.kill(stopped.pid, signal.SIGSTOP)
    go(tmp_path)
    error = first.communicate(timeout=20)[1] + third.communicate(timeout=20)[1]
    assert (first.returncode, third.returncode, stopped.poll()) == (EXIT_HANG, EXIT_HANG, None)
    sentence = (
        f"hang: 2 of 3 ranks were in 'step 3: forward';"
        f" rank 1 on {socket.gethostname()} did not answer: stopped, dead or cut off"
    )
    assert error.count(sentence) == 1
    assert (tmp_path / "stacks" / "summary.txt").read_text().splitlines()[1:] == [sentence]


def test_the_lowest_rank_alive_sums_up(tmp_path: Path, start: Start) -> None:
    stopped = start("time.sleep(60)", rank=0, world_size=2)
    other = start("time.sleep(60)", rank=1, world_size=2)
    os.kill(stopped.pid, signal.SIGSTOP)
    go(tmp_path)
    assert "; rank 0 on" in other.communicate(timeout=20)[1]
    assert other.returncode == EXIT_HANG


def test_ranks_that_hang_later_answer_the_first_and_are_told_apart(tmp_path: Path, start: Start) -> None:
    """The first gives the others 1.5 s; they began to wait for it 2 s later."""
    later = "time.sleep(2)\nbeat('step 3: backward')\ntime.sleep(60)"
    ranks = [start("time.sleep(60)" if rank == 2 else later, rank, 3, SECONDS="5", ANSWER="1.5") for rank in range(3)]
    go(tmp_path)
    errors = [process.communicate(timeout=20)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [EXIT_HANG] * 3
    assert "hang: 2 of 3 ranks were in 'step 3: backward'; rank 2 on" in errors[0]
    assert re.search(r"in 'step 3: forward' for 5 s; stacks are in", errors[0])
    assert told(tmp_path, rank=1)[0]["seconds"] < 5


def test_time_in_which_the_process_was_stopped_does_not_count(start: Start) -> None:
    process = start("time.sleep(0.8)\nfor _ in range(12):\n    time.sleep(0.1)\n    beat('step 4')")
    time.sleep(0.4)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(1.8)
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(20) == 0


WITH_LOCK = "ctypes.PyDLL(None).sleep(60)"  # unlike CDLL it keeps the interpreter's lock, so no Python thread runs


def test_a_rank_that_holds_the_interpreters_lock_still_gives_its_stacks(tmp_path: Path, start: Start) -> None:
    start(f"def deep_inside():\n    {WITH_LOCK}\ndeep_inside()", rank=1, world_size=2)
    other = start("time.sleep(60)", rank=0, world_size=2)
    go(tmp_path)
    error = other.communicate(timeout=20)[1]
    assert f"rank 1 on {socket.gethostname()} could not run Python, a call in C held its lock" in error
    assert "in deep_inside" in told(tmp_path, rank=1)[1]


def test_the_kernel_ends_a_rank_that_holds_the_interpreters_lock(start: Start) -> None:
    body = f"watchdog._ALARM_CLOCK_SECONDS = 0.5\ntime.sleep(0.3)\n{WITH_LOCK}"
    assert start(body).wait(10) == -signal.SIGALRM


def test_whatever_the_abort_does_the_status_is_that_of_a_hang(tmp_path: Path, start: Start) -> None:
    aborts = ["time.sleep(60)", "1 / 0", "(run / 'aborted').touch()"]
    for process in [start("watchdog._ABORT_SECONDS = 1\ntime.sleep(60)", abort=abort) for abort in aborts]:
        assert process.wait(10) == EXIT_HANG
    assert (tmp_path / "aborted").exists()


def test_a_rank_that_only_meets_the_error_of_anothers_end_ends_alike(tmp_path: Path, start: Start) -> None:
    """Its collective fails when the hung rank is gone; it was busy till then and heard no alarm."""
    hung = start("time.sleep(60)", rank=0, world_size=2)
    busy = start(
        "while not is_alarm_raised():\n    beat('step 4: data')\n    time.sleep(0.05)\nraise RuntimeError('peer')",
        rank=1, world_size=2,
    )  # fmt: skip
    go(tmp_path)
    assert busy.wait(20) == hung.wait(20) == EXIT_HANG
    assert told(tmp_path, rank=1)[0]["doing"] == "step 4: data"


def test_an_error_of_its_own_is_passed_on(start: Start) -> None:
    process = start("raise RuntimeError('own')")
    assert "RuntimeError: own" in process.communicate(timeout=20)[1]
    assert process.returncode == 1


def test_stacks_that_cannot_be_written_go_to_the_log(tmp_path: Path, start: Start) -> None:
    """The kernel refuses every byte, as on a full disk."""
    process = start("resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\ntime.sleep(60)")
    _, error = process.communicate(timeout=20)
    assert "stacks of rank 0, which cannot be written:\nThread MainThread" in error
    assert "E hang: " in error
    assert process.returncode == EXIT_HANG


def test_a_standard_error_that_takes_nothing_holds_nobody_up(tmp_path: Path, start: Start) -> None:
    process = start("watchdog._LOG_SECONDS = 0.2\nos.set_blocking(2, True)\nos.write(2, bytes(65536))\ntime.sleep(60)")
    assert process.wait(15) == EXIT_HANG  # nobody has read its full pipe
    assert "in work\n" in told(tmp_path)[1]


def test_an_alarm_and_stacks_of_an_earlier_start_are_not_of_this_one(tmp_path: Path, start: Start) -> None:
    for rank in (0, 1):
        earlier = Stacks(tmp_path, Ranks(rank, rank, 2), "earlier start")
        earlier.raise_alarm()
        earlier.tell("step 1: data", 62.0, "Thread\n")
        earlier.summarize("hang")
        earlier.close()
    process = start("time.sleep(1.6)\nbeat('step 4: data')\ntime.sleep(60)", world_size=2, SECONDS="2")
    go(tmp_path)
    error = process.communicate(timeout=20)[1]
    assert "hang: rank 0 on" in error
    assert "; rank 1 did not answer: stopped, dead or cut off" in error
    assert told(tmp_path)[0]["doing"] == "step 4: data"


def test_zero_seconds_watch_nothing(tmp_path: Path) -> None:
    before = threading.active_count()
    with Watchdog(tmp_path, Ranks(0, 0, 1), 0, "this start", lambda: None) as dog:
        dog.beat("step 1: data")
        assert threading.active_count() == before
    assert not list(tmp_path.iterdir())


def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    before = threading.active_count(), signal.getitimer(signal.ITIMER_REAL)[0]
    with Watchdog(tmp_path, Ranks(0, 0, 1), 600, "this start", lambda: None):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 1200
    assert (threading.active_count(), signal.getitimer(signal.ITIMER_REAL)[0]) == (before[0], 0)


def test_a_folder_that_cannot_be_written_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "stacks").touch()
    with pytest.raises(RunError, match=r"stacks cannot be written \(File exists\); mend that, or set faults\."):
        Watchdog(tmp_path, Ranks(0, 0, 1), 1, "this start", lambda: None)


def test_the_time_promised_for_the_end_is_kept() -> None:
    parts = 2 * watchdog._LOG_SECONDS + watchdog._FILE_SECONDS + 2 * 5.0 + watchdog._ABORT_SECONDS
    assert parts <= 25 < watchdog._ALARM_CLOCK_SECONDS


ANSWERS = st.lists(st.tuples(st.sampled_from(["", "step 1: data", "step 1: backward"]), st.booleans()), min_size=1,
                   max_size=8)  # fmt: skip


@given(ANSWERS)
def test_a_summary_accounts_for_every_rank(kinds: list[tuple[str, bool]]) -> None:
    answers = [
        Answer(rank, f"node{rank}", doing, 60.0, blocked and not doing) for rank, (doing, blocked) in enumerate(kinds)
    ]
    text = summary(answers)
    named = {int(number) for number in re.findall(r"rank (\d+) on node", text)}
    together = re.search(r"(\d+) of (\d+) ranks were in '(.*?)'", text)
    most = {answer.rank for answer in answers if together and answer.doing == together[3]}
    assert named | most == set(range(len(answers)))
    assert not named & most
    assert len(most) == (int(together[1]) if together else 0)
    assert together is None or len(most) > sum(bool(answer.doing) for answer in answers) / 2
    assert "\n" not in text


def test_a_summary_of_many_ranks_names_some() -> None:
    answers = [Answer(rank, "") for rank in range(1024)]
    assert summary(answers).endswith("rank 6, rank 7 and 1016 more did not answer: stopped, dead or cut off")
