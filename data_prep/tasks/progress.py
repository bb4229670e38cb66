"""Progress of a phase: a bar on a terminal, a line elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class PhaseProgress:
    """Shows how many tasks of one phase are done; nothing if all were finished before."""

    def __init__(self, console: Console, phase: str, num_tasks: int, num_finished: int = 0) -> None:
        """Announce a phase, in words, of `num_tasks`, of which some are finished from an earlier start."""
        self._console, self._phase = console, phase
        self._start = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description:<9}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal or num_finished == num_tasks,
        )
        self._task = self._progress.add_task(phase, total=num_tasks, completed=num_finished)
        self._found = f", {num_finished} of {num_tasks} found finished" if num_finished else ""
        self._is_told = not console.is_terminal and num_finished < num_tasks

    def __enter__(self) -> "PhaseProgress":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._is_told and kind is None:
            self._tell(f"{self._phase:<9} {time.monotonic() - self._start:6.1f} s{self._found}")
        elif kind and issubclass(kind, KeyboardInterrupt):
            task = self._progress.tasks[0]
            self._tell(f"stopping: {task.completed} of {task.total} tasks of {self._phase} are finished")

    def _tell(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def advance(self) -> None:
        """One task is done."""
        self._progress.advance(self._task)
