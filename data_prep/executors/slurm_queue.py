"""What is asked of SLURM: submit a job array, tell its states, cancel by name."""

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.config.prep.executors import SlurmExecutor
from pipeline.errors import ConfigError

_DEFAULTS = ("SQUEUE_", "SCANCEL_")
"""Variables by which a user changes what these commands print and choose."""
CANCEL_SECONDS = 120


def require_slurm() -> None:
    """Raises ConfigError if SLURM's commands are missing."""
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise ConfigError(
            f"executor.type (slurm) needs {', '.join(missing)} on the PATH; run this on a login node of the cluster,"
            " or set executor.type to local"
        )


def submit(
    config: SlurmExecutor, name: str, numbers: Sequence[int], workers: int, command: Sequence[str], log_folder: Path
) -> str:
    """Submit one array task for each of `numbers`, at most `workers` at a time; the job's id.

    Raises:
        ConfigError: SLURM refuses the job.
    """
    script = f"#!/bin/sh\nexec {shlex.join(command)}\n"
    options = sbatch_options(config, name, numbers, workers, log_folder)
    done = _run("sbatch", *options, script=script)
    if done.returncode:
        raise ConfigError(
            f"executor: sbatch refused a job array ({_last_line(done.stderr)}); mend executor.partition, account,"
            " time, memory_gb, max_array_size or sbatch"
        )
    return done.stdout.strip().split(";")[0]


def sbatch_options(
    config: SlurmExecutor, name: str, numbers: Sequence[int], workers: int, log_folder: Path
) -> list[str]:
    """Options of sbatch; those of the config override the defaults, but not what the executor relies on."""
    options = {"ntasks": "1", "cpus-per-task": "1", "time": config.time, "mem": f"{config.memory_gb}G"}
    options |= {key: value for key in ("partition", "account") if (value := getattr(config, key))}
    options |= config.sbatch
    options |= {
        "job-name": name,
        "array": f"{ranges(numbers)}%{workers}",
        "output": f"{str(log_folder).replace('%', '%%')}/%a.log",
        "open-mode": "append",
    }
    # SLURM would requeue without a bound; lost tasks are submitted again by their driver
    return [
        "--parsable",
        "--no-requeue",
        *(f"--{key}={value}" if value else f"--{key}" for key, value in options.items()),
    ]


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers in SLURM's notation: `0-3,7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def states(name: str, job: str) -> dict[int, str] | None:
    """State of each array task of a job that SLURM still knows; None if SLURM does not answer now."""
    done = _run("squeue", "--noheader", "--array", "--states=all", f"--name={name}", "--format=%F %K %T")
    if done.returncode:
        return None
    rows = (line.split() for line in done.stdout.splitlines())
    return {int(number): state for row_job, number, state in rows if row_job == job}


def cancel(names: Collection[str], wait: bool) -> None:
    """Cancel all jobs of these names, and perhaps wait until they have left their nodes."""
    if not names:
        return
    option = f"--name={','.join(names)}"
    _run("scancel", option)
    deadline = time.monotonic() + CANCEL_SECONDS
    while wait and _run("squeue", "--noheader", option).stdout.strip() and time.monotonic() < deadline:
        time.sleep(1)


def _run(*command: str, script: str | None = None) -> "subprocess.CompletedProcess[str]":
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_DEFAULTS)}
    return subprocess.run(command, input=script or "", env=kept, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
