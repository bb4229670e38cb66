"""Runs tasks by some executor in a process that a test may kill: `WORK EXECUTOR-AS-JSON WORKERS KIND NUM-TASKS`.

WORKERS is 0 for the executor's own choice, KIND a task of `executor_tasks` with one number. It prints the workers and
the results.
"""

import signal
import sys
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console

from data_prep.executors.local import LocalProcesses
from data_prep.executors.ray import RayTasks
from data_prep.executors.slurm import SlurmArrays
from data_prep.tasks.runner import Runner
from pipeline.config.prep.executors import Executor, LocalExecutor, RayExecutor
from tests.unit.data_prep import executor_tasks


def make_executor(config: Executor, workers: int | None) -> LocalProcesses | RayTasks | SlurmArrays:
    if isinstance(config, LocalExecutor):
        return LocalProcesses(workers)
    return RayTasks(config, workers) if isinstance(config, RayExecutor) else SlurmArrays(config, workers)


def main() -> None:
    # started in the background of a script, a process inherits that Ctrl-C is ignored, and Python leaves it so
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work, config, workers, kind, num_tasks = sys.argv[1:]
    executor_config = TypeAdapter(Executor).validate_json(config)
    tasks = [getattr(executor_tasks, kind)(number) for number in range(int(num_tasks))]
    with make_executor(executor_config, int(workers) or None) as executor:
        done = Runner(Path(work), executor, Console(stderr=True)).run(tasks)
    print(executor.workers, [one.result for one in done])


if __name__ == "__main__":
    main()
