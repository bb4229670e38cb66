"""Updates that were skipped because a loss or the gradient was not finite: told of, and the end of the run at last."""

from collections.abc import Callable
from pathlib import Path

from pipeline.engine.process_group import ProcessGroup
from pipeline.errors import DivergenceError, TarmacError
from pipeline.runtime.journal import Journal
from pipeline.runtime.logs import get_logger
from pipeline.train.loop import StepInfo

_log = get_logger("train")


class SkippedUpdates:
    """Warns of each skipped update, and ends the run after too many in a row. It comes after the metrics.

    Where the loss scale of fp16 falls, updates are skipped as they must be: of these it says nothing.
    """

    def __init__(
        self,
        group: ProcessGroup,
        run: Path,
        most: int,
        in_a_row: Callable[[], int],
        documents: Callable[[int], str],
    ) -> None:
        """Set up.

        Args:
            group: The ranks.
            run: The run folder, for the command that shows a step's data.
            most: So many in a row are borne.
            in_a_row: How many there are by now, this step's included; the same on all ranks.
            documents: Names some documents of a step, counted from 1; only rank 0 is asked.
        """
        self._group, self._run, self._most = group, run, most
        self._in_a_row, self._documents = in_a_row, documents

    def __call__(self, info: StepInfo) -> None:
        """Look at the step.

        Raises:
            DivergenceError: On all ranks, if one update too many was skipped.
        """
        if not info.skipped or info.rescaled:
            return
        number, what = self._in_a_row(), self._not_finite(info)
        if number > self._most:
            raise DivergenceError(
                f"{number} updates in a row up to step {info.step} were skipped, and faults.max_skipped_updates is"
                f" {self._most}: {what} not finite at a step that read {self._named(info.step)}; `tarmac explain"
                f" {self._run} --step {info.step}` shows all of it; leave such data out, or lower optimizer.lr"
            )
        if self._group.ranks.is_main:
            _log.warning("step %d: update skipped, %s not finite; %d in a row, and one more than %d end the run",
                         info.step, what, number, self._most)  # fmt: skip
            Journal(self._run).note("skipped", step=info.step, what=what, in_a_row=number)

    def _not_finite(self, info: StepInfo) -> str:
        """What it is; every rank knows of its own losses only."""
        finite = self._group.gather(bool(info.loss_sum.isfinite()))
        ranks = [str(rank) for rank, is_finite in enumerate(finite) if not is_finite]
        if not ranks:
            return "the gradient is"
        return f"the loss of rank{'s' if ranks[1:] else ''} {', '.join(ranks[:8])}{' …' if ranks[8:] else ''} is"

    def _named(self, step: int) -> str:
        """The documents; that they cannot be read must not hide why the run ends."""
        try:
            return self._group.main_decides(lambda: self._documents(step))
        except TarmacError as error:
            return f"what cannot be named ({error})"
