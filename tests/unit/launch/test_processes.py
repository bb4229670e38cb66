"""Jobs made of small real processes: everything ends, and the exit status says how."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from launch.hostfile import plan_deepspeed
from launch.local import plan_local
from launch.machine import free_port
from launch.plan import Job, Machine, Plan
from launch.processes import JobProcess, killing_signal
from launch.torchrun import plan_torchrun
from pipeline.config.cluster import DeepSpeedCluster, LocalCluster, TorchrunCluster
from pipeline.errors import RunError

ROOT = Path(__file__).parents[3]

RANK = """
import os, pathlib, signal, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
stopped = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: stopped.append(number))
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
rank = os.environ["RANK"]
(folder / f"helper-{rank}.pid").write_text(str(helper.pid))
(folder / f"rank-{rank}.tmp").write_text(str(os.getpid()))
(folder / f"rank-{rank}.tmp").rename(folder / f"rank-{rank}.pid")
deadline = time.monotonic() + 120
while time.monotonic() < deadline and not stopped and not (folder / "finish").exists():
    time.sleep(0.05)
(folder / f"signal-{rank}").write_text(str(stopped))
sys.exit(85 if stopped else 0)
"""


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


MACHINE = Machine(sys.executable, 0, 2, 0, "/ops", {})
TRAIN = Job("pretrain", "unused")


def plan(launcher: str, folder: Path) -> Plan:
    """Two ranks of a launcher, which take a stub for the job."""
    if launcher == "local":
        made = plan_local(LocalCluster(type="local", processes=2), TRAIN, replace(MACHINE, free_port=free_port()))
    elif launcher == "torchrun":
        made = plan_torchrun(TorchrunCluster(type="torchrun", processes=2), TRAIN, MACHINE, None)
    else:
        (folder / "hosts").write_text("here slots=2\nthere slots=1\n")
        cluster = DeepSpeedCluster(type="deepspeed", hostfile=str(folder / "hosts"), ssh=False)
        made = plan_deepspeed(cluster, TRAIN, MACHINE, {"here": 2, "there": 1}, 0)
    module = made.command.index("--module")
    return replace(made, command=(*made.command[:module], "--module", "stub_rank", str(folder)))


class Started:
    """A `tarmac launch`-like process: it runs a JobProcess over a real launcher with two stub ranks."""

    def __init__(self, folder: Path, launcher: str) -> None:
        self.folder = folder
        (folder / "stub_rank.py").write_text(RANK)
        code = (
            "import pathlib; from launch.plan import Plan; from launch.processes import JobProcess\n"
            "class Telling(JobProcess):\n"
            "    def _find_ranks(self, runner):\n"
            "        super()._find_ranks(runner)\n"
            f"        if len(self._ranks) == 2: pathlib.Path({str(folder / 'seen')!r}).touch()\n"
            f"raise SystemExit(Telling({plan(launcher, folder)!r}).run())"
        )
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder}"}
        self.process = subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True)
        wait_for(lambda: len(list(folder.glob("rank-*.pid"))) == 2)
        wait_for((folder / "seen").exists)  # the ranks are up; now the job has seen them, too
        self.tree = psutil.Process(self.process.pid).children(recursive=True)

    def pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())

    def signals(self) -> list[str]:
        return [path.read_text() for path in sorted(self.folder.glob("signal-*"))]

    def assert_nothing_left(self) -> None:
        assert len(self.tree) >= 5  # a launcher, two ranks, their two helpers
        wait_for(lambda: not [process for process in self.tree if alive(process)])


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


EACH = pytest.mark.parametrize("started", ["local", "hostfile", "torchrun"], indirect=True)


@pytest.fixture
def started(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Started]:
    job = Started(tmp_path, getattr(request, "param", "local"))
    yield job
    for process in job.tree:
        if alive(process):
            process.kill()
    if job.process.poll() is None:
        job.process.kill()
    job.process.wait()


@EACH
def test_a_job_that_ends_well_gives_zero_and_takes_its_helpers_along(started: Started) -> None:
    (started.folder / "finish").touch()
    assert started.process.wait(60) == 0
    started.assert_nothing_left()


@EACH
def test_a_killed_rank_ends_the_job_with_an_error(started: Started) -> None:
    os.kill(started.pid("rank-1"), signal.SIGKILL)
    assert started.process.wait(60) == 247
    started.assert_nothing_left()


@EACH
def test_a_killed_rank_ends_the_job_although_the_other_is_stopped(started: Started) -> None:
    """A stopped process gets no TERM; DeepSpeed's own patience with it is 30 s."""
    os.kill(started.pid("rank-0"), signal.SIGSTOP)
    os.kill(started.pid("rank-1"), signal.SIGKILL)
    assert started.process.wait(30) == 247
    started.assert_nothing_left()


@EACH
@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_reaches_every_rank_and_their_status_comes_back(started: Started, signum: signal.Signals) -> None:
    started.process.send_signal(signum)
    assert started.process.wait(60) == 85
    assert len(started.signals()) == 2
    assert all(str(signum.value) in text for text in started.signals())
    started.assert_nothing_left()


def test_a_killed_launcher_in_the_middle_is_an_error_and_leaves_no_ranks(started: Started) -> None:
    os.kill(psutil.Process(started.pid("rank-0")).ppid(), signal.SIGKILL)
    assert started.process.wait(60) == 1
    started.assert_nothing_left()


@EACH
def test_killing_the_command_itself_ends_everything(started: Started) -> None:
    started.process.kill()
    started.process.wait()
    started.assert_nothing_left()


def run_python(code: str) -> int:
    return JobProcess(Plan((sys.executable, "-c", code), {"MARK": "7"})).run()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("pass", 0),
        ("import os, sys; sys.exit(int(os.environ['MARK']))", 7),
        ("import os; os.kill(os.getpid(), 9)", 137),
    ],
)
def test_status_of_a_plain_process(code: str, status: int) -> None:
    assert run_python(code) == status


def test_a_plain_process_gets_the_signal_itself() -> None:
    code = (
        "import os, signal, sys, time; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(9))\n"
        "os.kill(os.getppid(), signal.SIGUSR1); time.sleep(60)"
    )
    assert run_python(code) == 9
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_second_interrupt_kills_a_process_that_ignores_the_first() -> None:
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGINT, lambda *_: os.kill(os.getppid(), signal.SIGINT))\n"
        "os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"
    )
    assert run_python(code) == 137


@pytest.mark.parametrize(("status", "signum"), [(247, signal.SIGKILL), (245, signal.SIGSEGV), (85, None), (0, None)])
def test_the_signal_that_killed_a_rank_is_known(status: int, signum: signal.Signals | None) -> None:
    assert killing_signal(status) == signum


def test_a_missing_program_is_one_sentence() -> None:
    with pytest.raises(RunError, match=r"/nowhere/python cannot be started \(No such file or directory\)"):
        JobProcess(Plan(("/nowhere/python",), {})).run()
