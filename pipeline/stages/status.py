"""`tarmac status` and `tarmac stop`: what runs do, and asking one to end, by their folders alone."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.errors import RunError
from pipeline.runtime.files import read_json_lines
from pipeline.runtime.lock import holder
from pipeline.runtime.markup import duration
from pipeline.runtime.stop_file import StopFile
from pipeline.stages.run_folder import read_config


@dataclass(frozen=True)
class Status:
    """Where a run stands."""

    run: Path
    owner: str | None
    """Who trains it now."""
    step: int
    num_steps: int
    row: dict[str, Any]
    """Its newest figures."""
    end: str | None
    """Why its last start ended."""

    @property
    def words(self) -> str:
        """What it does."""
        if self.owner is not None:
            return f"trains: {self.owner}"
        if self.step >= self.num_steps:
            return "done"
        return f"stopped: {self.end}" if self.end else "ended without a word"

    @property
    def seconds_left(self) -> float | None:
        """Until its last step, at the speed of its newest figures."""
        seconds = self.row.get("perf/step_seconds")
        return None if self.owner is None or seconds is None else (self.num_steps - self.step) * float(seconds)


def status_of(run: str | Path) -> Status:
    """Where a run stands. Raises RunError if the folder is not a run."""
    folder = Path(run)
    config = read_config(folder)
    journal = read_json_lines(folder / "journal.jsonl")
    starts = [row for row in journal if row["event"] in ("start", "resume")]
    ends = [row for row in journal if row["event"] == "end"]
    rows = [row for row in read_json_lines(folder / "metrics.jsonl") if "train/loss" in row]
    is_ended = bool(ends) and journal.index(ends[-1]) > journal.index(starts[-1])
    step = max([rows[-1]["step"]] if rows else [0] + [row["step"] for row in starts[-1:]])
    return Status(folder, holder(folder), step, starts[-1]["num_steps"] if starts else config.num_steps,
                  rows[-1] if rows else {}, ends[-1]["reason"] if is_ended else None)  # fmt: skip


def print_status(runs: Sequence[str]) -> None:
    """Print a table of runs; without any, of all below `runs`. Raises RunError."""
    found = [status_of(run) for run in runs or sorted(map(str, _runs_below(Path("runs"))))]
    if not found:
        raise RunError("there is no run below runs; name one")
    table = Table("run", "step", "loss", "tokens/s", "left", "state")
    for one in found:
        left = "" if one.seconds_left is None else duration(one.seconds_left)
        loss, speed = one.row.get("train/loss"), one.row.get("perf/tokens_per_second")
        table.add_row(str(one.run), f"{one.step:,} of {one.num_steps:,}", _figure(loss, ".4f"), _figure(speed, ",.0f"),
                      left, one.words)  # fmt: skip
    Console().print(table, highlight=False, markup=False)


def stop(run: str | Path, wait_seconds: float = 0.0) -> None:
    """Ask a run to save and end; it does so after a step.

    Args:
        run: Its folder.
        wait_seconds: How long to wait for it.

    Raises:
        RunError: It is not a run, does not train, or goes on after so long.
    """
    read_config(Path(run))
    if (owner := holder(run)) is None:
        raise RunError(f"run {run} does not train now; there is nothing to stop")
    StopFile(run).ask()
    print(f"asked {owner} to save and end")
    until = time.monotonic() + wait_seconds
    while wait_seconds and holder(run) is not None:
        if time.monotonic() > until:
            raise RunError(f"run {run} goes on after {wait_seconds:.0f} s; it ends after its step, or wait longer")
        time.sleep(0.5)


def _runs_below(folder: Path) -> list[Path]:
    return [path.parent for path in folder.glob("*/config.yaml") if (path.parent / "journal.jsonl").exists()]


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
