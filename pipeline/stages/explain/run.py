"""A run that is to be explained: its data, its order, and how many ranks it had."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.config.run import RunConfig
from pipeline.data.cuts import Cuts
from pipeline.data.loader import Share
from pipeline.data.order import Order
from pipeline.data.phases import Phase
from pipeline.engine.checkpoint.commit import Commit, newest_commit
from pipeline.errors import RunError
from pipeline.runtime.journal import Journal
from pipeline.stages.data_plan import continued, planned
from pipeline.stages.ingredients import TrainingData, open_data
from pipeline.stages.run_folder import read_run


@dataclass(frozen=True)
class Explained:
    """A run, opened."""

    folder: Path
    config: RunConfig
    data: TrainingData
    order: Order
    num_trained: int
    """Steps up to its newest good checkpoint."""
    sessions: tuple[tuple[int, int], ...]
    """Steps before each session of the journal, and its ranks."""

    def share(self, step: int, world_size: int | None, micro_size: int | None) -> Share:
        """Which part rank 0 had of a step, from 1: as the journal says, but for what is given."""
        world_size = self._world_size(step) if world_size is None else world_size
        micro_size = self.config.batch.micro_size if micro_size is None else micro_size
        for name, size in (("--world-size", world_size), ("--micro-size", micro_size)):
            if size < 1:
                raise RunError(f"{name} ({size}) must be at least 1")
        return Share(0, world_size, micro_size)

    def _world_size(self, step: int) -> int:
        """Of the last session that began before a step."""
        return next((size for first, size in reversed(self.sessions) if first < step), 1)


def open_explained(folder: Path) -> Explained:
    """Open a run folder. Raises RunError, CorpusError or CheckpointError in one sentence."""
    config = read_run(folder)
    data = open_data(config)
    commit = newest_commit(folder / "checkpoints")
    events = [event for event in Journal(folder).read() if event["event"] in ("start", "resume")]
    sessions = tuple((int(event["step"]), int(event["world_size"])) for event in events)
    return Explained(folder, config, data, _order(config, data, commit), commit.step if commit else 0, sessions)


def _order(config: RunConfig, data: TrainingData, commit: Commit | None) -> Order:
    """By the phase table of a checkpoint, or from the beginning."""
    cuts = Cuts(data.source.shards, config.seed)
    if commit is None:
        first, changes = planned(config, data.source)
        return Order(cuts, config.seed, [first], changes)
    table = [Phase.from_json(values) for values in commit.state["phases"]]
    return Order(cuts, config.seed, table, continued(config, data.source, table, commit.step))
