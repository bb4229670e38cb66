"""Where tasks run. Each is a context manager with the face of `data_prep.tasks.runner.Executor`."""

from contextlib import AbstractContextManager

from data_prep.executors.local import LocalProcesses
from data_prep.tasks.runner import Executor
from pipeline.config.prep.executors import LocalExecutor, RayExecutor, SlurmExecutor
from pipeline.config.prep.recipe import PrepConfig


def make_executor(config: PrepConfig) -> AbstractContextManager[Executor]:
    """The executor that a config names. Raises MissingDependencyError if its package or program is missing."""
    match config.executor:
        case LocalExecutor():
            return LocalProcesses(config.workers)
        case RayExecutor():
            from data_prep.executors.ray import RayTasks

            return RayTasks(config.executor, config.workers)
        case SlurmExecutor():
            from data_prep.executors.slurm import SlurmArrays

            return SlurmArrays(config.executor, config.workers)
