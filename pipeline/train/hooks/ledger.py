"""The ledger: a digest of the tokens each rank passed to forward, per step. It shows that data went on exactly."""

from pathlib import Path

from pipeline.runtime.records import Records
from pipeline.train.loop import StepInfo


def ledger_path(folder: Path, rank: int) -> Path:
    """Where a rank's ledger is."""
    return folder / "ledger" / f"rank-{rank:05d}.jsonl"


class Ledger:
    """Appends `{"step", "digest"}` lines; the digest is the xxh3 of inputs, labels and positions in order.

    Lines are not synced: a kill takes none of them, a power cut may take the last ones.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        """Append to this rank's file."""
        self._lines = Records(ledger_path(folder, rank), synced=False)

    def __call__(self, info: StepInfo) -> None:
        """Write the step's line, or keep it until it can be written."""
        self._lines.append({"step": info.step, "digest": info.digest})

    def close(self) -> None:
        """Write what waits, or say what is lost."""
        self._lines.close()
