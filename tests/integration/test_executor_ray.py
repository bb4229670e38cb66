"""Tasks by a real Ray on this machine: one that is started for them, and clusters that run already."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from rich.console import Console

from data_prep.executors.ray import RayTasks
from data_prep.tasks.runner import Runner
from data_prep.tasks.store import Done
from data_prep.tasks.task import Task
from pipeline.config.prep.executors import RayExecutor
from pipeline.errors import ConfigError, CorpusError, TokenizerError
from tests.unit.data_prep import executor_tasks
from tests.unit.data_prep.executor_tasks import Killed, Refused, Square, begun, ran, wait_until

ROOT = Path(__file__).parents[2]
NODE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""They run no tasks, and end by themselves about a minute and a half after a raylet that was killed."""
LOOPBACK = ("127.0.0.1", "::ffff:127.0.0.1", "::1")


def is_ray(process: psutil.Process) -> bool:
    return process.name().startswith(("ray", "gcs_server"))


def run(work: Path, executor: RayTasks, tasks: list[Task]) -> list[Done]:
    return Runner(work, executor, Console(file=io.StringIO())).run(tasks)


@contextmanager
def driver(work: Path, workers: int, kind: str, num_tasks: int, **changes: object) -> Iterator["subprocess.Popen[str]"]:
    """Another process that runs tasks; it is killed at the end, with whatever it has left."""
    config = RayExecutor.model_validate({"type": "ray", "memory_gb": 1} | changes).model_dump_json()
    words = [str(work), config, str(workers), kind, str(num_tasks)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.data_prep.executor_driver", *words], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        for left in session(process.pid):
            left.kill()


def session(leader: int) -> list[psutil.Process]:
    """Who lives in a session; a zombie that an idle init has not collected does not count."""
    return [one for one in psutil.process_iter() if session_of(one) == leader and one.status() != psutil.STATUS_ZOMBIE]


def session_of(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None


def open_gate(work: Path) -> None:
    (work / "open").touch()


def test_more_memory_than_any_node_has_is_told() -> None:
    with pytest.raises(
        ConfigError, match=r"executor\.memory_gb \(1000000\) is more than any node of Ray has \(\d+\.\d\)"
    ):
        RayTasks(RayExecutor(type="ray", memory_gb=10**6), 1).__enter__()


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:1"])
def test_a_cluster_that_cannot_be_reached_is_told(address: str) -> None:
    told = rf"executor\.address \({address}\) leads to no usable Ray cluster \(.+\); start one"
    with pytest.raises(ConfigError, match=told):
        RayTasks(RayExecutor(type="ray", address=address), 1).__enter__()


def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    with driver(tmp_path, 2, "Gated", 5) as process:
        wait_until(lambda: len(begun(tmp_path)) == 2)
        [folder] = {word for one in session(process.pid) for word in one.cmdline() if word.startswith("--temp_dir=")}
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGINT
        assert said.strip().endswith("KeyboardInterrupt")
        wait_until(lambda: not session(process.pid))
    assert not Path(folder.removeprefix("--temp_dir=")).exists()


def test_a_killed_driver_takes_everything_with_it_and_what_is_unfinished_runs_again(tmp_path: Path) -> None:
    with driver(tmp_path, 2, "Gated", 3) as process:
        wait_until(lambda: len(begun(tmp_path)) == 2)
        process.kill()
        wait_until(lambda: all(one.name() in AGENTS for one in session(process.pid)))
    open_gate(tmp_path)
    with driver(tmp_path, 2, "Gated", 3) as process:
        assert process.communicate(timeout=120)[0] == "2 [0, 1, 2]\n"


def test_a_task_that_never_has_enough_memory_is_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")  # what runs already is more than that
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    with driver(tmp_path, 1, "Gated", 1) as process:
        _, said = process.communicate(timeout=200)
    assert "CorpusError: a worker of Ray was lost 4 times (OutOfMemoryError), perhaps for want of memory" in said


def test_it_works_in_any_folder(tmp_path: Path) -> None:
    """Workers find `data_prep` because it is installed, and what the driver's script imports."""
    shutil.copy(executor_tasks.__file__, tmp_path / "my_tasks.py")
    (tmp_path / "drive.py").write_text(
        "from pathlib import Path\n"
        "from rich.console import Console\n"
        "from data_prep.executors.ray import RayTasks\n"
        "from data_prep.tasks.runner import Runner\n"
        "from my_tasks import Square\n"
        "from pipeline.config.prep.executors import RayExecutor\n"
        "with RayTasks(RayExecutor(type='ray', memory_gb=1), 1) as executor:\n"
        "    print([one.result for one in Runner(Path('work').absolute(), executor, Console(stderr=True))"
        ".run([Square(5), Square(6)])])\n"
    )
    (tmp_path / "work").mkdir()
    done = subprocess.run([sys.executable, "drive.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "[25, 36]\n", done.stderr


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A cluster whose head runs no tasks."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # loopback only
        patch.setenv("RAY_TMPDIR", folder)
        Path(folder, "ray").mkdir()  # the address is written there before Ray makes it
        from ray.cluster_utils import Cluster

        running = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
        yield running
        running.shutdown()


def test_a_lost_node_of_a_cluster_costs_time_only(tmp_path: Path, cluster: Any) -> None:
    node = cluster.add_node(num_cpus=2, **NODE)
    with driver(tmp_path, 0, "Gated", 2, address=cluster.address) as process:
        wait_until(lambda: len(begun(tmp_path)) == 2)
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=2, **NODE)
        wait_until(lambda: len(begun(tmp_path)) == 4)
        open_gate(tmp_path)
        said, errors = process.communicate(timeout=120)
    assert said.endswith("\n2 [0, 1]\n"), errors  # Ray says on the standard output that it lost a node


def test_no_more_than_workers_run_on_a_larger_cluster(tmp_path: Path, cluster: Any) -> None:
    cluster.add_node(num_cpus=4, **NODE)
    with driver(tmp_path, 2, "Counted", 6, address=cluster.address) as process:
        said, errors = process.communicate(timeout=120)
    assert said.startswith("2 ["), errors
    assert max(json.loads(said.removeprefix("2 "))) <= 2


@pytest.fixture(scope="module")
def embedded() -> Iterator[RayTasks]:
    """A Ray with room for four tasks, of which two run at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # the memory of other tests is not the subject here
        with RayTasks(RayExecutor(type="ray", memory_gb=1), 2) as executor:
            yield executor
    assert not [process.name() for process in psutil.Process().children(recursive=True) if is_ray(process)]


def test_results_come_in_the_order_of_the_tasks(tmp_path: Path, embedded: RayTasks) -> None:
    tasks = [Square(number) for number in range(7)]
    run(tmp_path, embedded, tasks[2:4])
    assert [one.result for one in run(tmp_path, embedded, tasks)] == [number**2 for number in range(7)]
    assert ran(tmp_path) == list(range(7))


def test_an_error_is_raised_as_it_is_and_the_others_stay_finished(tmp_path: Path, embedded: RayTasks) -> None:
    with pytest.raises(TokenizerError, match=r"^number \(3\) is not wanted; take another$"):
        run(tmp_path, embedded, [Refused(3)])
    assert [one.result for one in run(tmp_path, embedded, [Square(3)])] == [9]


def test_a_killed_worker_is_replaced(tmp_path: Path, embedded: RayTasks) -> None:
    run(tmp_path, embedded, [Killed(2)])
    assert (tmp_path / "deaths.log").read_text() == 3 * "died\n"


def test_a_task_that_kills_its_workers_is_told_in_a_sentence(tmp_path: Path, embedded: RayTasks) -> None:
    with pytest.raises(CorpusError, match=r"a worker of Ray was lost 4 times \(WorkerCrashedError\).*memory_gb \(1\)"):
        run(tmp_path, embedded, [Killed(9)])


def listening(process: psutil.Process) -> list[Any]:
    """Where a process listens; nowhere if it has ended in the meantime."""
    try:
        return [one for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    except psutil.NoSuchProcess:
        return []


def name_of(process: psutil.Process) -> str:
    """Its name; none if it has ended in the meantime."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def test_nobody_else_can_reach_it(embedded: RayTasks) -> None:
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    addresses = {connection.laddr.ip for process in family for connection in listening(process)}
    assert addresses
    assert addresses <= set(LOOPBACK)
    [gcs] = [process for process in family if name_of(process) == "gcs_server"]
    [port] = [connection.laddr.port for connection in listening(gcs)]
    stranger = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    code = f"from ray._raylet import GcsClient; GcsClient(address='127.0.0.1:{port}').get_all_node_info(timeout=5)"
    done = subprocess.run([sys.executable, "-c", code], env=stranger, capture_output=True, text=True)
    assert "InvalidAuthToken" in done.stderr
