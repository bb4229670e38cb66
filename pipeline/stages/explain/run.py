"""A run that is to be explained: its data, its order, and how many ranks it had."""

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pipeline.config.run import RunConfig
from pipeline.data.corpora import Corpora
from pipeline.data.loader import Share
from pipeline.data.order import Order
from pipeline.engine.checkpoint.commit import Commit, committed_steps, read_commit, step_name
from pipeline.errors import CheckpointError, RunError
from pipeline.runtime.journal import Journal
from pipeline.stages.data.feed import End
from pipeline.stages.data.plan import order_of
from pipeline.stages.data.rollbacks import ROLLBACK, Rollback, is_left, read_rollbacks
from pipeline.stages.ingredients import TrainingData, open_data
from pipeline.stages.run_folder import read_run


class Start(NamedTuple):
    """A start of the run, or a rollback, behind which it goes on with the ranks that it had."""

    step: int
    """Steps made before it."""
    world_size: int
    """Shares of rows: ranks, but those that take the same rows count as one."""
    micro_size: int


@dataclass(frozen=True)
class Explained:
    """A run, opened."""

    folder: Path
    config: RunConfig
    data: TrainingData
    order: Order
    end: End
    num_trained: int
    """Steps up to its newest good checkpoint."""
    sessions: tuple[Start, ...]
    """As the journal tells them."""
    rollbacks: tuple[Rollback, ...]
    """All of them, as the journal tells them."""

    def makes(self, step: int) -> bool:
        """Whether the run has made a step, from 1, or will make it."""
        return step >= 1 and (step <= self.num_trained or not self.end.is_last(step - 1))

    @cached_property
    def num_steps(self) -> int:
        """Steps of the whole run. If packing decides when the data end, shards are packed to tell."""
        made = bisect_left(range(1, self.end.num_steps + 1), True, key=lambda step: not self.makes(step))
        return max(self.num_trained, made)

    def branch(self, step: int) -> int:
        """The branch that a step, from 1, belongs to; each rollback begins one, and what it left is not explained."""
        return max((one.branch for one in self.rollbacks if one.step < step), default=0)

    def num_abandoned(self, step: int) -> int:
        """How often a step, from 1, was made on branches that were abandoned."""
        return sum(one.step < step <= one.from_step for one in self.rollbacks)

    def share(self, step: int, world_size: int | None, micro_size: int | None) -> Share:
        """Which part rank 0 had of a step, from 1: as the journal says, but for what is given."""
        last = next((one for one in reversed(self.sessions) if one.step < step), None)
        session = last or Start(0, 1, self.config.batch.micro_size)
        world_size = session.world_size if world_size is None else world_size
        micro_size = session.micro_size if micro_size is None else micro_size
        for name, size in (("--world-size", world_size), ("--micro-size", micro_size)):
            if size < 1:
                raise RunError(f"{name} ({size}) must be at least 1")
        return Share(0, world_size, micro_size)

    def withdraws(self, document: str, step: int) -> bool:
        """Whether a step, from 1, leaves out the text of a document."""
        withdrawn = self.order.phase(step - 1).setting.holes.withdrawn
        source = self.data.source
        return isinstance(source, Corpora) and bool(withdrawn) and document in source.withdrawn[withdrawn]


def open_explained(folder: Path) -> Explained:
    """Open a run folder. Raises RunError, CorpusError or CheckpointError in one sentence."""
    config = read_run(folder)
    data = open_data(config)
    rollbacks = read_rollbacks(folder)
    commit = _newest_commit(folder / "checkpoints", rollbacks)
    num_trained = commit.step if commit else 0
    order = order_of(config, data.source, commit, rollbacks)
    return Explained(folder, config, data, order, End(config, order), num_trained, _sessions(folder, config), rollbacks)


def _newest_commit(checkpoints: Path, rollbacks: Sequence[Rollback]) -> Commit | None:
    """The newest one of the branch that holds; a rollback that was killed may not have set aside the others yet."""
    for step in reversed(committed_steps(checkpoints)):
        with suppress(CheckpointError):
            commit = read_commit(checkpoints / step_name(step))
            if not is_left(rollbacks, step, commit.branch):
                return commit
    return None


def _sessions(folder: Path, config: RunConfig) -> tuple[Start, ...]:
    found: list[Start] = []
    for event in Journal(folder).read():
        if event["event"] in ("start", "resume"):
            micro_size = event.get("micro_size", config.batch.micro_size)
            data_world_size = event.get("data_world_size", event["world_size"])
            found.append(Start(event["step"], data_world_size, micro_size))
        elif event["event"] == ROLLBACK and found:
            found.append(found[-1]._replace(step=event["step"]))
    return tuple(found)
