"""Starting a job on this machine."""

import sys
from pathlib import Path

from launch.extensions import extensions_cache
from launch.plan import Machine, Plan
from launch.processes import JobProcess, killing_signal


def run_local(plan: Plan, machine: Machine) -> int:
    """Run a plan to its end and return its exit status; nothing it started is left when this returns."""
    variables = {**machine.environment, **plan.environment}
    with extensions_cache(Path(variables["TORCH_EXTENSIONS_DIR"])):
        status = JobProcess(plan.command, plan.environment, plan.num_ranks).run()
    if signum := killing_signal(status):
        print(f"tarmac: a rank was killed by {signum.name}; the same command resumes", file=sys.stderr)
    return status
