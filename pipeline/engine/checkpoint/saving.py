"""Saving: ranks write their parts into one `.partial` folder, agree on what was written, and rank 0 commits.

A save is begun, goes on beside training, and is finished, each by all ranks after the same step:

    begin    rank 0 makes the folder; every rank copies its part of the state and starts writing it
    advance  once all ranks have written: they tell rank 0 what, which commits it in the background
    advance  once that is done: the checkpoint is there
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pipeline.engine.checkpoint.background import Background
from pipeline.engine.checkpoint.commit import Commit, FileRecord, begin, commit, hashed_file, step_name
from pipeline.engine.checkpoint.fragments import fragments, optimizer_name, step_counts
from pipeline.engine.checkpoint.index import INDEX_NAME, Written, index_of
from pipeline.engine.checkpoint.layout import FROZEN, Fragment
from pipeline.engine.checkpoint.snapshot import Snapshot, fits_in_memory, live, owned
from pipeline.engine.checkpoint.tensors import total_bytes, write_tensors
from pipeline.engine.engine import Engine
from pipeline.errors import CheckpointError
from pipeline.runtime.files import available_bytes
from pipeline.runtime.logs import get_logger

_log = get_logger("checkpoints")

_SPARE_BYTES, _INDEX_BYTES = 1 << 20, 256
"""Room for the commit and the file system's own needs, and for each part's lines in index and header."""


@dataclass(frozen=True)
class Label:
    """What a checkpoint is of."""

    step: int
    """Updates made."""
    state: dict[str, Any]
    """The training state besides tensors, JSON values."""
    branch: int = 0
    """How often the run was rolled back before."""


class _Report(NamedTuple):
    """What a rank tells rank 0 of its part."""

    file: FileRecord
    written: list[Written]
    step_counts: dict[str, int]


class Saver:
    """Writes the checkpoints of a run, one at a time."""

    def __init__(
        self,
        engine: Engine,
        checkpoints: Path,
        *,
        exclude_frozen: bool = False,
        asynchronous: bool = False,
        tidy: Callable[[int], None] = lambda step: None,
    ) -> None:
        """Set up; all ranks call it.

        Args:
            engine: What is saved; its optimizer's state exists already.
            checkpoints: The run's `checkpoints` folder, shared by all ranks.
            exclude_frozen: Leave out weights that are not trained.
            asynchronous: Write beside training, from a copy in host memory, if all ranks have room for one.
            tidy: What rank 0 does beside training after the commit of a step; it raises nothing.
        """
        self._engine, self._group, self._checkpoints = engine, engine.group, checkpoints
        self._exclude_frozen, self._tidy = exclude_frozen, tidy
        parts = live(self._fragments())
        mine = total_bytes(parts)
        num_bytes, num_parts = self._group.sum(torch.tensor([mine, len(parts)])).tolist()
        self.num_bytes = int(num_bytes)
        """Size of a checkpoint's tensors, of all ranks."""
        self._spare_bytes = _SPARE_BYTES + _INDEX_BYTES * int(num_parts)
        self._background = Background("checkpoint")
        self._snapshot = self._make_snapshot(mine) if asynchronous else None
        self._doing: str | None = None
        self._label: Label | None = None
        self._loss_scale: dict[str, float] | None = None
        self._begun = 0.0
        self.stall_seconds = 0.0
        """How long training waited for the save that is going on, or for the last one."""

    def _make_snapshot(self, num_bytes: int) -> Snapshot | None:
        hosts = self._group.gather(os.uname().nodename)
        has_room = fits_in_memory(num_bytes, hosts.count(os.uname().nodename))
        if self._group.max(not has_room):
            if self._group.ranks.is_main:
                _log.warning("a rank has no memory for a copy of %.2f GB; checkpoints are written synchronously",
                             num_bytes / 1e9)  # fmt: skip
            return None
        return Snapshot(num_bytes, self._group.device)

    def _fragments(self) -> list[Fragment]:
        found = owned(fragments(self._engine))
        return [one for one in found if one.kind != FROZEN] if self._exclude_frozen else found

    @property
    def is_pending(self) -> bool:
        """Whether a save has begun and is not finished; the same on all ranks."""
        return self._label is not None

    @property
    def is_busy(self) -> bool:
        """Whether this rank is writing."""
        return self._background.is_busy

    def begin(self, label: Label) -> None:
        """Copy the state and start writing; none may be under way.

        Raises:
            CheckpointError: There is no room, or the folder cannot be made; on all ranks, nothing left behind.
        """
        assert not self.is_pending
        start = time.perf_counter()
        partial = Path(self._group.main_decides(lambda: self._make_folder(label.step)))
        mine = self._fragments()
        parts = self._snapshot.take(mine) if self._snapshot else live(mine)
        counts, scale = step_counts(self._engine), self._engine.loss_scale
        name = f"state/rank-{self._group.ranks.rank:05d}.safetensors"
        self._background.start(lambda: _Report(*write_tensors(partial, name, parts), counts))
        self._label, self._doing, self._begun = label, "writing", start
        self._loss_scale = scale and scale.state()
        if self._snapshot is None:
            self._wait()
        self.stall_seconds = time.perf_counter() - start

    def advance(self) -> "Saved | None":
        """Go on with a save of which no rank is busy; the checkpoint once it is committed. All ranks call it.

        Raises:
            CheckpointError: A rank could not write; on all ranks, with the partial folder removed.
        """
        start = time.perf_counter()
        try:
            return self._hand_over() if self._doing == "writing" else self._end()
        finally:
            self.stall_seconds += time.perf_counter() - start

    def finish(self) -> "Saved | None":
        """Wait for the save that is going on; None if there is none. Raises as `advance` does."""
        saved = None
        while self.is_pending:
            start = time.perf_counter()
            self._wait()
            self.stall_seconds += time.perf_counter() - start
            saved = self.advance()
        return saved

    def close(self) -> None:
        """Wait for what the thread does, and end it."""
        self._background.close()

    def _wait(self) -> None:
        """Until no rank is busy."""
        while self._group.max(self.is_busy):
            time.sleep(0.002)

    def _make_folder(self, step: int) -> str:
        try:
            partial = begin(self._checkpoints, step)  # first: what a kill left behind takes room
            free = available_bytes(self._checkpoints)
            if free < self.num_bytes + self._spare_bytes:
                shutil.rmtree(partial)
                raise CheckpointError(
                    f"checkpoint of step {step} needs {(self.num_bytes + self._spare_bytes) / 1e6:,.1f} MB, some to"
                    f" spare included, and {self._checkpoints} has {free / 1e6:,.1f} MB left; free space, or lower"
                    " checkpoints.keep_last"
                )
            return str(partial)
        except OSError as error:
            raise CheckpointError(
                f"checkpoint of step {step}: {self._checkpoints}: {error.strerror}; free space or mend its rights"
            ) from error

    def _hand_over(self) -> None:
        """Tell rank 0 what was written; it commits beside training."""
        assert self._label is not None
        label, report, fault = self._label, None, None
        try:
            report = self._background.result()
        except (OSError, MemoryError, RuntimeError) as error:
            fault = f"rank {self._group.ranks.rank}: {error.strerror if isinstance(error, OSError) else error}"
        faults = [one for one in self._group.gather(fault) if one]
        if faults:
            self._give_up(f"checkpoint of step {label.step} was not written ({'; '.join(faults)})")
        reports = self._group.gather_to_main(report)
        if reports is not None:
            self._background.start(lambda: self._commit(label, reports))
        self._doing = "committing"

    def _commit(self, label: Label, reports: list[_Report]) -> Commit:
        partial = self._partial(label)
        counts = {name: count for report in reports for name, count in report.step_counts.items()}
        written = [one for report in reports for one in report.written]
        index = index_of(optimizer_name(self._engine), written, counts, self._loss_scale)
        files = [report.file for report in reports] + [hashed_file(partial, INDEX_NAME, index.to_bytes())]
        record = Commit(
            label.step, self._group.ranks.world_size, label.branch, self._made_by(), label.state,
            tuple(sorted(files, key=lambda file: file.name)),
        )  # fmt: skip
        commit(partial, record)
        self._tidy(label.step)
        return record

    def _made_by(self) -> dict[str, Any]:
        settings = self._engine.config.engine
        return {
            "zero_stage": settings.zero_stage, "precision": settings.precision, "time": round(time.time(), 3),
            "host": os.uname().nodename,
        }  # fmt: skip

    def _end(self) -> "Saved":
        """Learn from rank 0 how the commit went."""
        assert self._label is not None
        label = self._label
        outcome = self._group.main_decides(lambda: _outcome(self._background.result))
        if isinstance(outcome, str):
            self._give_up(f"checkpoint of step {label.step} was not committed: {outcome}")
        self._label = self._doing = None
        return Saved(outcome, time.perf_counter() - self._begun)

    def _give_up(self, reason: str) -> None:
        """Remove what was written and raise, on all ranks."""
        assert self._label is not None
        partial = self._partial(self._label)
        self._label = self._doing = None
        self._group.main_decides(lambda: shutil.rmtree(partial, ignore_errors=True))
        error = CheckpointError(
            f"{reason}; mend the file system of {self._checkpoints}; the checkpoints before are untouched"
        )
        error.on_all_ranks = True
        raise error

    def _partial(self, label: Label) -> Path:
        return self._checkpoints / f"{step_name(label.step)}.partial"


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is there."""

    commit: Commit
    """What it holds."""
    seconds: float
    """From its beginning to its commit."""


def _outcome(result: Callable[[], Commit]) -> Commit | str:
    """What the background made, or what went wrong."""
    try:
        return result()
    except OSError as error:
        return f"{error.filename or 'a file'}: {error.strerror}"
    except CheckpointError as error:
        return str(error)
