"""Starting a job on this machine."""

from pathlib import Path

from launch.extensions import extensions_cache
from launch.plan import Machine, Plan
from launch.processes import JobProcess


def run_local(plan: Plan, machine: Machine) -> int:
    """Run a plan to its end and return its exit status; nothing it started is left when this returns."""
    variables = {**machine.environment, **plan.environment}
    with extensions_cache(Path(variables["TORCH_EXTENSIONS_DIR"])):
        return JobProcess(plan.command, plan.environment, plan.num_ranks).run()
