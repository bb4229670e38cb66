"""Runs the tasks of a phase that are not finished yet, wherever the executor runs them."""

import socket
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

from rich.console import Console

from data_prep.tasks.code import code_identity, difference
from data_prep.tasks.progress import PhaseProgress
from data_prep.tasks.store import Done, complete, damaged_files, find_done, forget, task_folder
from data_prep.tasks.task import Task
from pipeline.errors import CorpusError

PATIENCE_SECONDS = 60.0
"""The longest that NFS keeps what it knows of a folder, if nobody set it otherwise."""
_PAUSE_SECONDS = 0.5
_CHECKS_AT_A_TIME = 8
Item = tuple[Task, str]
"""A task and the folder for it, relative to the work folder."""
Codes = Mapping[tuple[str, ...], Mapping[str, str]]
"""Modules of tasks -> `code_identity` of them, where the tasks were planned."""


class Executor(Protocol):
    """Where tasks run."""

    workers: int
    """Tasks at a time."""

    def map(self, function: Callable[[Item], None], items: Sequence[Item], advance: Callable[[], None]) -> None:
        """Call `function` for each item, in any order, and `advance` after each. The first error is raised here."""


class Runner:
    """Keeps the time of each phase, which tasks it has, and which of them were not found finished."""

    def __init__(self, work: Path, executor: Executor, console: Console) -> None:
        """Run tasks of `work` by an executor."""
        self.work, self.executor = work, executor
        self.seconds: dict[str, float] = {}
        self.tasks: defaultdict[str, set[str]] = defaultdict(set)
        """Folders of each phase's tasks."""
        self.ran: defaultdict[str, set[str]] = defaultdict(set)
        """Folders of those that had to run."""
        self._console = console
        self._sound: set[str] = set()
        """Folders whose files are known to be what their tasks left."""

    @property
    def folders(self) -> frozenset[str]:
        """Folders of all tasks, relative to the work folder."""
        return frozenset().union(*self.tasks.values())

    def tell(self, text: str) -> None:
        """Show the user a line."""
        self._console.print(text, highlight=False, markup=False)

    def has_unfinished(self, tasks: Sequence[Task], without: Collection[str] = ()) -> bool:
        """Whether one of the tasks would have to run; files named in `without` may be missing."""
        return None in self._found(tasks, [task_folder(task) for task in tasks], without)

    def run(self, tasks: Sequence[Task], without: Collection[str] = (), source: str = "") -> list[Done]:
        """What the tasks of one phase left, in their order; files named in `without` may be missing.

        The user is told the phase, and the source if it is one's alone.

        Raises:
            TarmacError: A task failed; those that finished stay finished.
        """
        if not tasks:
            return []
        phase, start = tasks[0].phase, time.monotonic()
        folders = [task_folder(task) for task in tasks]
        done = self._found(tasks, folders, without)
        waiting = [number for number, one in enumerate(done) if one is None]
        with PhaseProgress(
            self._console, f"{phase} {source}".strip(), len(tasks), len(tasks) - len(waiting)
        ) as progress:
            items = [(tasks[number], folders[number]) for number in waiting]
            self.executor.map(partial(run_item, self.work, _codes(tasks)), items, progress.advance)
        for number in waiting:
            done[number] = self._left_by(tasks[number], folders[number])
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - start
        self.tasks[phase].update(folders)
        self.ran[phase].update(folders[number] for number in waiting)
        self._sound.update(folders)
        return [one for one in done if one is not None]

    def _found(self, tasks: Sequence[Task], folders: Sequence[str], without: Collection[str] = ()) -> list[Done | None]:
        """What finished tasks have left, whole; None for each of the others."""
        with ThreadPoolExecutor(_CHECKS_AT_A_TIME) as pool:
            return list(pool.map(partial(self._find, without), tasks, folders))

    def _find(self, without: Collection[str], task: Task, folder: str) -> Done | None:
        """What a task left, if it is finished. Files of an earlier start may have been damaged for months."""
        done = find_done(self.work, task, folder, without)
        if done is None or folder in self._sound:
            return done
        damaged = damaged_files(self.work, task, done, without)
        if not damaged:
            self._sound.add(folder)
            return done
        self.tell(f"work ({self.work}): {folder}/{damaged[0]} is damaged; its task is done again")
        forget(self.work, [folder], damaged)
        return None

    def _left_by(self, task: Task, folder: str) -> Done:
        """What a task left that has just run. NFS may show for a while what it knows, so files of others come late."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while (done := find_done(self.work, task, folder)) is None:
            if time.monotonic() > give_up:
                raise CorpusError(
                    f"work ({self.work}): a task has finished, but {folder} is missing or not whole here; work must"
                    " be on a file system that all workers share; then give the same command"
                )
            time.sleep(_PAUSE_SECONDS)
            list(self.work.glob(f"{task.phase}/*"))  # to list a folder is to ask the server what is in it
        return done


def _codes(tasks: Sequence[Task]) -> Codes:
    return {task.modules: code_identity(task.modules) for task in tasks}


def run_item(work: Path, planned: Codes, item: Item) -> None:
    """Run one task, in whatever process.

    Raises:
        CorpusError: Other code or other versions would run here than the task's key says.
        TarmacError: What the task raises.
    """
    task, folder = item
    if task_folder(task) != folder:
        found = difference(planned[task.modules], code_identity(task.modules))
        raise CorpusError(
            f"on {socket.gethostname()}, {folder} would run otherwise than planned ({found or 'its fields differ'});"
            " let all workers use the same installation, then give the same command: finished tasks are kept"
        )
    complete(work, task, folder)
