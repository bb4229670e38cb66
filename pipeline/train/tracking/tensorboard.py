"""TensorBoard: event files in the run folder, in which no step comes twice, whatever becomes of the run."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import MissingDependencyError
from pipeline.runtime.logs import get_logger
from pipeline.train.tracking.tracker import Metrics

_log = get_logger("tensorboard")


class TensorBoard:
    """Writes scalars under their names. A disk that takes none turns it off; `metrics.jsonl` has all rows."""

    def __init__(self, folder: Path) -> None:
        """Set up for a run folder; a file is made when steps begin.

        Raises:
            MissingDependencyError: The package is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingDependencyError(
                "tracking.tensorboard (true) needs the tensorboard package; pip install 'tarmac[tensorboard]'"
            ) from error
        self._make, self._folder = SummaryWriter, folder / "tensorboard"
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """Begin a file that takes the place of what others say of later steps."""
        self.finish(0)
        try:
            self._writer = self._make(str(self._folder), purge_step=step + 1)
        except OSError as error:
            self._turn_off(error)

    def log(self, step: int, metrics: Metrics) -> None:
        """Write a row, at once: what is written before a checkpoint is of a step that does not come again."""
        if self._writer is None:
            return
        try:
            for name, value in metrics.items():
                if value is not None:
                    self._writer.add_scalar(name, value, step)
            self._writer.flush()
        except OSError as error:
            self._turn_off(error)

    def finish(self, exit_code: int) -> None:
        """Close the file."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
        self._writer = None

    def _turn_off(self, error: OSError) -> None:
        _log.warning(
            "TensorBoard is off until the next start (%s); metrics.jsonl has all rows", error.strerror or error
        )
        self.finish(1)
