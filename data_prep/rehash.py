"""`--rehash`: inputs whose bytes changed while their names, sizes and times did not."""

import shutil
from collections.abc import Sequence

from rich.console import Console

from data_prep.documents.runs import DOCUMENTS_NAME
from data_prep.plan import SourcePlan, read_tasks
from data_prep.readers import hash_file
from data_prep.reading.task import ReadTask
from data_prep.tasks.progress import PhaseProgress
from data_prep.tasks.runner import Runner
from data_prep.tasks.store import find_done, task_folder
from pipeline.config.prep.recipe import PrepConfig
from pipeline.errors import CorpusError


def forget_changed(
    config: PrepConfig, plans: Sequence[SourcePlan], runner: Runner, console: Console, must_fit: bool
) -> bool:
    """Forget the finished reading tasks whose inputs have other bytes than they read, so that they run again.

    Args:
        config: What is prepared.
        plans: The inputs.
        runner: Knows where finished tasks lie.
        console: Where progress goes.
        must_fit: Whether a changed input is an error: a finished corpus was made from bytes that are gone.

    Returns:
        Whether there are such inputs.

    Raises:
        CorpusError: There are, and they may not be.
    """
    tasks = [task for plan in plans for task in read_tasks(config, plan)]
    changed: list[tuple[ReadTask, list[str]]] = []
    with PhaseProgress(console, "rehash", len(tasks)) as progress:
        for task in tasks:
            if origins := _changed(task, runner):
                changed.append((task, origins))
            progress.advance()
    origins = [origin for _, group in changed for origin in group]
    if origins and must_fit:
        raise CorpusError(
            f"{len(origins)} inputs have other bytes than the corpus was made from (such as {origins[0]});"
            " give --replace too to make it anew"
        )
    for task, _ in changed:
        shutil.rmtree(runner.work / task_folder(task))
    return bool(changed)


def _changed(task: ReadTask, runner: Runner) -> list[str]:
    """Origins of a task's files whose bytes are not those that it read; none if it is not finished."""
    done = find_done(runner.work, task, task_folder(task), without=(DOCUMENTS_NAME,))
    if done is None:
        return []
    return [file.origin for file in task.files if hash_file(file) != done.result.inputs[file.origin]]
