"""The ledger: a digest of the tokens each rank passed to forward, per step. It shows that data went on exactly."""

import json
from pathlib import Path

from pipeline.train.loop import StepInfo


def ledger_path(folder: Path, rank: int) -> Path:
    """Where a rank's ledger is."""
    return folder / "ledger" / f"rank-{rank:05d}.jsonl"


class Ledger:
    """Appends `{"step", "digest"}` lines; the digest is the xxh3 of inputs, labels and positions in order."""

    def __init__(self, folder: Path, rank: int) -> None:
        """Append to this rank's file."""
        path = ledger_path(folder, rank)
        path.parent.mkdir(exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def __call__(self, info: StepInfo) -> None:
        """Write the step's line."""
        self._file.write(json.dumps({"step": info.step, "digest": info.digest}) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
