"""The batches of one start of a run: phases that begin are journalled, and damaged chunks left out where wanted."""

import time
from bisect import bisect_left
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import groupby, pairwise

from pipeline.config.data import CorpusData
from pipeline.config.run import RunConfig
from pipeline.data.batch import Batch
from pipeline.data.loader import Loader, Sequences, Share
from pipeline.data.noise import Noise
from pipeline.data.order import Order
from pipeline.data.phases import DamagedChunk
from pipeline.engine.mesh import mesh_of
from pipeline.engine.process_group import ProcessGroup
from pipeline.errors import TarmacError
from pipeline.runtime.journal import Journal
from pipeline.runtime.logs import get_logger
from pipeline.stages.data.agreement import DataAgreement
from pipeline.stages.data.history import changes_between, told

_log = get_logger("data")


class DataFeed:
    """This rank's batches, by an order that all ranks change alike when a chunk is damaged."""

    def __init__(
        self, config: RunConfig, source: Sequences, order: Order, group: ProcessGroup, journal: Journal, pad_id: int,
        noise: Noise | None = None,
    ) -> None:  # fmt: skip
        """Set up."""
        self.order = order
        self.waited_seconds = 0.0
        """How long this rank alone waited for the last batch."""
        self._source, self._group, self._journal = source, group, journal
        self._pad_id, self._noise = pad_id, noise
        mesh = mesh_of(config.engine, group.ranks.rank, group.ranks.world_size)
        self._share = Share(mesh.data_rank, mesh.data_world_size, config.batch.micro_size)
        self._ahead = config.data.cache.ahead if isinstance(config.data, CorpusData) else 0
        leaves_out = isinstance(config.data, CorpusData) and config.data.on_damage == "skip"
        self._agreement = DataAgreement(source, group, leaves_out)

    def batches(self, first_step: int, num_steps: int) -> Iterator[Batch]:
        """Batches of steps [first_step, num_steps)."""
        step = first_step
        while step < num_steps:
            step = yield from self._until_damage(step, num_steps)

    def _until_damage(self, first_step: int, num_steps: int) -> Generator[Batch, None, int]:
        """Batches up to the first step that reads a damaged chunk, which it returns."""
        loader = Loader(self._source, self.order, self._share, self._pad_id, self._ahead, self._noise)
        with closing(loader.batches(first_step, num_steps)) as batches:
            for step in range(first_step, num_steps):
                batch, error = self._next(batches)
                if lost := self._agreement.lost(error):
                    self._leave_out(lost, step)
                    return step
                self._tell_phases(step)
                assert batch is not None
                yield batch
        return num_steps

    def _next(self, batches: Iterator[Batch]) -> tuple[Batch | None, TarmacError | None]:
        """The next batch, or what is wrong with it."""
        start = time.perf_counter()
        try:
            return next(batches), None
        except TarmacError as error:
            return None, error
        finally:
            self.waited_seconds = time.perf_counter() - start

    def _leave_out(self, lost: list[DamagedChunk], step: int) -> None:
        self.order = self.order.without(lost, step)
        if self._group.ranks.is_main:
            for (source, shard), chunks in groupby(lost, key=lambda one: (one.source, one.shard)):
                named = ", ".join(str(one.chunk) for one in chunks)
                _log.warning("source %s, shard %d: chunk %s is damaged and left out from step %d on",
                             source, shard, named, step + 1)  # fmt: skip

    def _tell_phases(self, step: int) -> None:
        if not self._group.ranks.is_main:
            return
        table = self.order.phases(step)
        for before, phase in pairwise([table[0], *table]):
            if phase.first_step == step:
                changed = changes_between(before.setting, phase.setting)
                skipped = phase.skipped_steps * before.setting.global_batch
                self._journal.note("phase", step=step, changed=changed, skipped_samples=skipped, phase=phase.to_json())
                if step:
                    _log.info("step %d begins a phase: %s", step + 1, told(changed, skipped))


class End:
    """Where a run ends: at the config's last step or, if it is to stop at the end of data, before one that repeats."""

    def __init__(self, config: RunConfig, order: Order) -> None:
        """Find the end, where the sizes of shards tell it; else it is found step by step, as they are packed."""
        data = config.data
        self._config, self._order = config, order
        self._stops = isinstance(data, CorpusData) and data.at_end == "stop"
        self._is_known = not (isinstance(data, CorpusData) and _packs(data))
        self.num_steps = self._planned = config.num_steps
        """Steps that the run makes, at most where packing decides how many sequences there are."""
        if self._stops and self._is_known:
            self.num_steps = bisect_left(range(1, config.num_steps + 1), True, key=lambda n: bool(order.repeated(n)))

    def is_last(self, made: int) -> bool:
        """Whether the run ends once so many steps are made."""
        return made >= self.num_steps or (self._stops and not self._is_known and bool(self._order.repeated(made + 1)))

    def reason(self, made: int) -> str:
        """Why it ends there."""
        ended = self._order.repeated(made + 1) if self._stops and made < self._planned else []
        return f"end of data: the next step would repeat {', '.join(ended)}" if ended else "complete"

    def warn(self) -> None:
        """Say what never comes of the config's plan, and how often sources come, if some come again."""
        for name in _never(self._config, self.num_steps):
            _log.warning("%s would begin at the run's end, step %d, or later: it never comes", name, self.num_steps)
        if not self._stops:
            self._warn_of_epochs()

    def _warn_of_epochs(self) -> None:
        """About how often, where only packing would tell."""
        order, about = (self._order, "") if self._is_known else (self._order.in_windows(), "about ")
        epochs = order.epochs(self.num_steps)
        if any(number > 1 for number in epochs.values()):
            told = ", ".join(f"{name} {about}{number:.1f} times" for name, number in epochs.items())
            _log.warning("sources are seen again: by step %d %s", self.num_steps, told)


def _never(config: RunConfig, num_steps: int) -> list[str]:
    """Phases, skips and the learning rate's decay, that begin at a step that is not made."""
    skips = config.data.skip if isinstance(config.data, CorpusData) else ()
    late = [f"data.phases.{n}" for n, one in enumerate(config.stretches[1:]) if one.first_step >= num_steps]
    late += [f"data.skip [{first}, {last})" for first, last in skips if first >= num_steps]
    start = config.schedule.decay_start if config.schedule.type == "wsd" else None
    return late + ([f"schedule.decay_start ({start})"] if start is not None and start >= num_steps else [])


def _packs(data: CorpusData) -> bool:
    return "best_fit" in (data.packing, *(phase.packing for phase in data.phases))
