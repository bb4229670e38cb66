"""What benchmarks share: a process of its own for each run, pinned to some cores, and tables."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

MIB = 1 << 20
ONE_THREAD = {
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ARROW_IO_THREADS": "1",
    "FASTOKENS_BPE_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
"""Environment in which libraries start no threads beside the one that works, and ask no network."""


class RunFailedError(Exception):
    """A contender ended with an error; holds the end of what it said."""


def run_alone(
    module: str, arguments: Sequence[str], num_cores: int = 1, python: str | Path = sys.executable
) -> dict[str, Any]:
    """Run `python -m MODULE ARGUMENTS` on so many cores and return the JSON object in its last line of output.

    Raises:
        RunFailedError: It failed, or there are not so many cores.
    """
    allowed = os.sched_getaffinity(0)
    if len(allowed) < num_cores:
        raise RunFailedError(f"needs {num_cores} cores, and there are {len(allowed)}")
    os.sched_setaffinity(0, sorted(allowed)[-num_cores:])  # which the process inherits before it imports anything
    try:
        process = subprocess.Popen(
            [str(python), "-m", module, *arguments],
            env={**os.environ, **ONE_THREAD},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.sched_setaffinity(0, allowed)
    output, errors = process.communicate()
    if process.returncode:
        raise RunFailedError("\n".join(errors.splitlines()[-4:]))
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


class Stopwatch:
    """Seconds from entering to leaving; a context manager."""

    seconds = 0.0
    """By the clock."""
    cpu_seconds = 0.0
    """Of this process and all those below it."""
    peak_mib = 0
    """Most memory that one of them ever held."""

    def __enter__(self) -> "Stopwatch":
        self._below = _Descendants()
        self._below.start()
        self._start, self._cpu_start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._start
        self._below.stop()
        self.cpu_seconds = time.process_time() - self._cpu_start + sum(self._below.cpu_seconds.values())
        self.peak_mib = max(_peak_kib(os.getpid()), *self._below.peak_kib.values(), 0) * 1024 // MIB


class _Descendants(Thread):
    """Looks at all processes below this one, ten times a second: workers need not be its own children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._stopped = Event()
        self.cpu_seconds: dict[int, float] = {}
        self.peak_kib: dict[int, int] = {}

    def run(self) -> None:
        while not self._stopped.wait(0.1):
            self._look()

    def stop(self) -> None:
        self._stopped.set()
        self.join()
        self._look()

    def _look(self) -> None:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error, OSError):
                self.cpu_seconds[process.pid] = sum(process.cpu_times()[:2])
                self.peak_kib[process.pid] = _peak_kib(process.pid)


def _peak_kib(pid: int) -> int:
    """Not from getrusage: that counts what a parent held when it started the process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def machine() -> str:
    """Processor, cores, memory and Python in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    cores = len(os.sched_getaffinity(0))
    return f"{(names or [platform.machine()])[0]}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def versions(packages: Iterable[str]) -> str:
    """Name and version of each package."""
    return ", ".join(f"{package} {_version(package)}" for package in packages)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column is text, the others are figures."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def plain_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same for a terminal."""
    table = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *others in table:
        figures = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *figures]))
    return "\n".join(lines)
