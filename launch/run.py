"""Running a plan whose command lasts as long as the job."""

import signal
import sys
from pathlib import Path

from launch.extensions import extensions_cache
from launch.plan import Machine, Plan
from launch.processes import JobProcess, killing_signal
from pipeline.runtime.signals import EXIT_INTERRUPTED, EXIT_REQUEUE
from pipeline.runtime.stop_file import StopFile


def run_here(plan: Plan, machine: Machine, run_folder: str) -> int:
    """Run a plan to its end and return its exit status; nothing it started on this machine is left when this returns.

    Ranks on other machines get no signal; the run folder, which all see, asks them to save and end.
    """
    variables = {**machine.environment, **plan.environment}
    is_remote = plan.num_ranks > 0 and not plan.ranks_here
    stop_file = StopFile(run_folder)
    job = JobProcess(plan, stop_file.ask if is_remote else None)
    with extensions_cache(Path(variables["TORCH_EXTENSIONS_DIR"])):
        status = job.run()
    if job.asked and is_remote:
        stop_file.take()
    if signum := killing_signal(status):
        print(f"tarmac: a rank was killed by {signum.name}; the same command resumes", file=sys.stderr)
    if is_remote and status == EXIT_INTERRUPTED and job.asked and job.asked != signal.SIGINT:
        return EXIT_REQUEUE  # whoever is asked by the folder ends as after Ctrl-C
    return status
