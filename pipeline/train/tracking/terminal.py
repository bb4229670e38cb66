"""The log line of each row, and on a terminal a bar below all lines that stays at the bottom."""

import atexit
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from pipeline.runtime.logs import get_logger
from pipeline.runtime.markup import duration
from pipeline.train.tracking.tracker import Metrics

_log = get_logger("train")


class Terminal:
    """Says how training goes: step, loss, norm, tokens/s, MFU, time left."""

    def __init__(self, num_steps: int) -> None:
        """Show a bar if standard error is a terminal; what else is written goes above it.

        Args:
            num_steps: Where the run ends.
        """
        self._num_steps = num_steps
        self._progress, self._task = _progress(num_steps) if sys.stderr.isatty() else (None, None)

    def begin(self, step: int) -> None:
        """The run goes on behind a step."""
        self._show(step, "")

    def log(self, step: int, metrics: Metrics) -> None:
        """Say a row that has a loss; others are said by who measured them."""
        if "train/loss" not in metrics:
            return
        left = duration((self._num_steps - step) * (metrics.get("perf/step_seconds") or 0.0))
        norm = next(name for name in metrics if name in ("train/gradient_norm", "train/update_norm"))
        loss, speed = _shown(metrics["train/loss"], 4), f"{metrics['perf/tokens_per_second'] or 0.0:,.0f} tok/s"
        mfu = f"MFU {100 * (metrics['perf/mfu'] or 0.0):.1f} %"
        _log.info(
            "step %d  loss %s  lr %.2e  %s %s  %s  %s  left %s",
            step, loss, metrics["train/learning_rate"], norm.removeprefix("train/"), _shown(metrics[norm], 3), speed,
            mfu, left,
        )  # fmt: skip
        self._show(step, f"loss {loss}  {speed}  {mfu}  left {left}")

    def _show(self, step: int, text: str) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=step, text=text)

    def finish(self, exit_code: int) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.stop()


def _progress(num_steps: int) -> tuple[Progress, TaskID]:
    columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[text]}"))
    progress = Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=2)
    task = progress.add_task("", total=num_steps, text="")
    atexit.register(progress.stop)  # after an error, too: the cursor is hidden
    progress.start()
    return progress, task


def _shown(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
