"""Running a plan whose command lasts as long as the job."""

import signal
import sys
from pathlib import Path

from launch.extensions import extensions_cache
from launch.plan import Machine, Plan
from launch.processes import JobProcess, killing_signal
from pipeline.errors import RunError
from pipeline.runtime.lock import holder, launch_of
from pipeline.runtime.signals import EXIT_INTERRUPTED, EXIT_REQUEUE
from pipeline.runtime.stop_file import StopFile


def run_here(plan: Plan, machine: Machine, run_folder: str) -> int:
    """Run a plan to its end and return its exit status; nothing it started on this machine is left when this returns.

    Ranks on other machines get no signal; the run folder, which all see, asks them to save and end.

    Raises:
        RunError: The ranks are on other machines, and another job trains in the run folder.
    """
    variables = {**machine.environment, **plan.environment}
    asking = _Asking(run_folder, machine.launch) if plan.num_ranks > 0 and not plan.ranks_here else None
    job = JobProcess(plan, asking)
    with extensions_cache(Path(variables["TORCH_EXTENSIONS_DIR"])):
        status = job.run()
    if signum := killing_signal(status):
        print(f"tarmac: a rank was killed by {signum.name}; the same command resumes", file=sys.stderr)
    if asking is None:
        return status
    asking.take_back()
    if status == EXIT_INTERRUPTED and job.asked and job.asked != signal.SIGINT:
        return EXIT_REQUEUE  # whoever is asked by the folder ends as after Ctrl-C
    return status


class _Asking:
    """Asks the ranks of one launch, and no others, to end: by their run folder, while they hold its lock."""

    def __init__(self, run_folder: str, launch: str) -> None:
        if (owner := holder(run_folder)) is not None:
            raise RunError(
                f"run {run_folder} trains now: {owner}; wait for it to end (a minute, if it was killed),"
                " stop it with tarmac stop, or choose another output"
            )
        self._folder, self._launch = run_folder, launch
        self._file = StopFile(run_folder)
        self._has_put = False

    def __call__(self) -> None:
        """Ask. Raises OSError if the folder is not there yet."""
        if launch_of(self._folder) == self._launch:
            self._has_put |= self._file.ask()

    def take_back(self) -> None:
        """Remove what was put there, so that it asks nobody later; not what somebody else put there before."""
        if self._has_put:
            self._file.take()
