"""What benchmarks share: a process of its own for each run, pinned to some cores, and tables."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

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


def run_alone(module: str, arguments: Sequence[str], num_cores: int = 1) -> dict[str, Any]:
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
            [sys.executable, "-m", module, *arguments],
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
    """Of this process and of those that it started and that have ended."""

    def __enter__(self) -> "Stopwatch":
        self._start, self._cpu_start = time.perf_counter(), sum(os.times()[:4])
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._start
        self.cpu_seconds = sum(os.times()[:4]) - self._cpu_start


def peak_mib() -> int:
    """Most memory that this process, or one of those that it started and that have ended, ever held, in MiB."""
    # not from getrusage: that counts what the parent held when it started this process
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return max(int(own.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024 // MIB


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
