"""SLURM's queue: submitting a batch script, after other jobs, and taking jobs out again."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from launch.plan import Plan
from pipeline.errors import RunError


def dependency(after: Sequence[str]) -> tuple[str, ...]:
    """Options of sbatch for a job that starts when others have succeeded, and goes when one of them cannot any more."""
    return (f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes") if after else ()


def submit(plan: Plan, log_dir: str, after: Sequence[str] = ()) -> str:
    """Hand the script to SLURM and return the job's id.

    Args:
        plan: What to submit.
        log_dir: Where its output goes.
        after: Ids of the jobs that must have succeeded before it starts.

    Raises:
        RunError: The folder cannot be made, or SLURM does not take the job.
    """
    assert plan.script is not None
    try:
        Path(log_dir).mkdir(parents=True, exist_ok=True)  # SLURM drops a job's output if its folder is absent
    except OSError as error:
        raise RunError(
            f"cluster.log_dir ({log_dir}) cannot be made: {error.strerror}; choose another folder"
        ) from error
    try:
        command = (*plan.command, *dependency(after))
        result = subprocess.run(command, input=plan.script, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RunError(
            "sbatch was not found; run this on a machine of the SLURM cluster, or add --dry-run to see the script"
        ) from error
    if result.returncode:
        reason = "; ".join(line.strip() for line in result.stderr.splitlines() if line.strip())
        raise RunError(f"sbatch refused the job ({reason}); mend the cluster file, --dry-run shows the script")
    return result.stdout.strip().partition(";")[0]


def cancel(jobs: Sequence[str]) -> str:
    """Take jobs out of the queue; what is to be said of that, nothing if there are none."""
    if not jobs:
        return ""
    try:
        result = subprocess.run(["scancel", *jobs], capture_output=True, text=True)
        refused = result.stderr.strip() or f"status {result.returncode}" if result.returncode else ""
    except OSError as error:
        refused = str(error.strerror)
    if refused:
        return f"the steps before it may still be queued, as scancel failed ({refused}): scancel {' '.join(jobs)}"
    return "the jobs of the steps before it were cancelled"
