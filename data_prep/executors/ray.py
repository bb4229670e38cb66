"""Tasks of a Ray cluster whose nodes see the same folders, or of a Ray that lives as long as the executor."""

import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import islice
from types import TracebackType
from typing import Any

from data_prep.tasks.runner import Item
from pipeline.config.prep.executors import RayExecutor
from pipeline.errors import ConfigError, CorpusError, MissingDependencyError, TarmacError

MAX_RETRIES = 3
"""How often a task begins again when its worker or its node is lost."""
KNOCK_SECONDS = 20
GIGABYTE = 2**30
_OBJECT_STORE_BYTES = 80 * 2**20
"""About the least that Ray accepts; tasks exchange files, not objects."""


class RayTasks:
    """One Ray task for each item."""

    def __init__(self, config: RayExecutor, workers: int | None) -> None:
        """Prepare so many tasks at a time, or one for each core of this machine or CPU of the cluster."""
        self.workers = workers or len(os.sched_getaffinity(0))
        self._config, self._all = config, workers is None
        self._stack = ExitStack()

    def __enter__(self) -> "RayTasks":
        """Start or reach Ray.

        Raises:
            MissingDependencyError: Ray is not installed.
            ConfigError: The cluster cannot be reached, or none of its nodes has the memory of a task.
        """
        with ExitStack() as stack:
            self._start(stack) if self._config.address is None else self._connect(stack, self._config.address)
            self._check_memory()
            self._stack = stack.pop_all()
        return self

    def _start(self, stack: ExitStack) -> None:
        """A Ray on the loopback interface that only this process and its workers may use."""
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on Linux too, or it listens everywhere
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # or Ray writes one for all to read
        self._ray = _import_ray()
        # the path of a socket has at most 107 bytes, so TMPDIR may be too long
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True))
        stack.callback(self._ray.shutdown)
        self._ray.init(
            address="local",
            num_cpus=self.workers,
            num_gpus=0,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
            _system_config={"task_oom_retries": MAX_RETRIES},  # or Ray would try for ever
        )

    def _connect(self, stack: ExitStack, address: str) -> None:
        self._ray = _import_ray()
        stack.callback(self._ray.shutdown)
        try:
            _knock(address)
            self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError) as error:
            why = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"executor.address ({address}) leads to no usable Ray cluster ({why}); start one with this version of"
                f" Ray ({self._ray.__version__}) and Python, or leave the address out"
            ) from error
        if self._all:
            self.workers = max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def _check_memory(self) -> None:
        """Ray would wait for ever for a node that is large enough."""
        most = max(node["Resources"].get("memory", 0) for node in self._ray.nodes() if node["Alive"]) / GIGABYTE
        if most < self._config.memory_gb:
            raise ConfigError(
                f"executor.memory_gb ({self._config.memory_gb}) is more than any node of Ray has ({most:.1f}); lower it"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave Ray, which ends what still runs of these tasks; a Ray that was started here ends."""
        self._stack.close()

    def map(self, function: Callable[[Item], None], items: Sequence[Item], advance: Callable[[], None]) -> None:
        """Run all items.

        Raises:
            TarmacError: What a task raises.
            CorpusError: A worker was lost again and again.
        """
        remote = self._ray.remote(_call).options(
            num_cpus=1, memory=self._config.memory_gb * GIGABYTE, max_retries=MAX_RETRIES
        )
        waiting = iter(items)
        running = [remote.remote(function, item) for item in islice(waiting, self.workers)]
        while running:
            [ready], running = self._ray.wait(running)
            self._take(ready)
            advance()
            running += [remote.remote(function, item) for item in islice(waiting, 1)]

    def _take(self, ready: Any) -> None:
        """Raise what a task raised: Ray's own error holds the whole trace in its text."""
        exceptions = self._ray.exceptions
        try:
            self._ray.get(ready)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, TarmacError):
                raise error.cause from None
            raise
        except exceptions.RayError as error:
            raise CorpusError(
                f"a worker of Ray was lost {MAX_RETRIES + 1} times ({type(error).__name__}), perhaps for want of"
                f" memory; raise executor.memory_gb ({self._config.memory_gb}) or lower workers ({self.workers}),"
                " and give the same command: finished tasks are kept"
            ) from error


def _call(function: Callable[[Item], None], item: Item) -> None:
    """What runs in a worker; Ray takes no `functools.partial`."""
    function(item)


def _knock(address: str) -> None:
    """Raises OSError if nobody answers at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            "executor.type (ray) needs Ray; install it with: pip install 'tarmac[ray]'"
        ) from error
    return ray
