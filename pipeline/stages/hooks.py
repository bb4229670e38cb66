"""What happens beside training in a run: which hooks there are, in which order, and what a checkpoint keeps of them."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.config.measuring import Evaluation, EvaluationCorpus
from pipeline.config.run import RunConfig
from pipeline.data.batch import MicroBatch
from pipeline.data.cuts import Cut
from pipeline.data.loader import Sequences
from pipeline.data.validation import batches
from pipeline.engine.checkpoint.commit import Commit, committed_steps
from pipeline.engine.checkpoint.saving import Label, Saver
from pipeline.engine.engine import Engine
from pipeline.engine.norms import squared_parameter_norm
from pipeline.runtime.journal import Journal
from pipeline.runtime.lock import RunLock
from pipeline.runtime.logs import get_logger
from pipeline.runtime.signals import StopRequest
from pipeline.runtime.stop_file import StopFile
from pipeline.stages.data.feed import DataFeed, End
from pipeline.stages.data.rollbacks import Rollback
from pipeline.stages.explain.named import some_documents
from pipeline.stages.explain.run import Explained, Start
from pipeline.stages.ingredients import TrainingData
from pipeline.stages.masking import fixed_noise
from pipeline.stages.rollback import last_good_step
from pipeline.train.hooks.checkpoints import CheckpointHook
from pipeline.train.hooks.evaluation import EvaluationHook
from pipeline.train.hooks.ledger import Ledger
from pipeline.train.hooks.lost_lock import LostLock
from pipeline.train.hooks.metrics import MetricsHook, Totals
from pipeline.train.hooks.profile import ProfileHook
from pipeline.train.hooks.samples import SamplesHook
from pipeline.train.hooks.skipped import SkippedUpdates
from pipeline.train.hooks.spikes import SpikeHook
from pipeline.train.hooks.stop import StopHook
from pipeline.train.hooks.stragglers import Stragglers
from pipeline.train.loop import Hook
from pipeline.train.pulse import Pulse
from pipeline.train.tracking.tracker import Tracker

_log = get_logger("train")


@dataclass(frozen=True)
class Surroundings:
    """What hooks need besides what a stretch of the run begins with."""

    config: RunConfig
    data: TrainingData
    engine: Engine
    saver: Saver
    tracker: Tracker
    flops: Callable[[int], float]
    """Floating-point operations of a token of a sequence of some length."""
    peak: float
    """Such operations that all devices could make in a second."""
    stop_request: StopRequest
    lock: RunLock | None
    """On rank 0."""
    beat: Callable[[str], None]
    """Tells the watchdog of progress."""
    facts: dict[str, Any]
    """What every checkpoint says of the run: tokenizer, base, seal."""


class Hooks:
    """The hooks of one stretch of a run: from its start, or from a rollback, to its end or the next one."""

    def __init__(
        self, around: Surroundings, feed: DataFeed, end: End, commit: Commit | None, rollbacks: tuple[Rollback, ...]
    ) -> None:
        """Set up; all ranks call it.

        Args:
            around: What lasts as long as the process.
            feed: The data of this stretch.
            end: Where the run ends with these data.
            commit: What it goes on from.
            rollbacks: All of the run so far.
        """
        self._around, self._feed, self._end, self._rollbacks = around, feed, end, rollbacks
        config, group, state = around.config, around.engine.group, commit.state if commit else {}
        folder, every = Path(config.output), config.tracking.log_every_steps
        pulse = Pulse(group)
        self._metrics = MetricsHook(
            around.engine, around.tracker, every, Totals(**state.get("totals", {})), config.tokens_by_length,
            around.flops, around.peak, partial(squared_parameter_norm, around.engine), several_sources(around.data),
        )  # fmt: skip
        self._spikes = SpikeHook(
            group, pulse, config.faults.spikes, Journal(folder), state=state.get("spikes"),
            begins_anew=self._begins_anew, can_go_back=self._can_go_back,
        )  # fmt: skip
        self.saving = CheckpointHook(
            around.saver, folder, config.checkpoints, self._label, config.tokens_at, pulse, group.ranks.is_main,
            commit.step if commit else 0,
        )  # fmt: skip
        self.ledger = Ledger(folder, group.ranks.rank)
        skipped = SkippedUpdates(
            group, folder, config.faults.max_skipped_updates, lambda: self._metrics.skipped_in_a_row, self._documents
        )
        lost = LostLock(pulse, around.lock)
        self.all: list[Hook] = [
            pulse, lost, self.ledger, self._metrics, skipped,
            Stragglers(
                group, around.tracker, every, config.faults.straggler_ratio, folder, config.tracking.per_rank
            ),
            *([self._spikes] if config.faults.spikes.action != "off" else []),
            *self._evaluation(), *self._samples(), self.saving, *self._profile(commit),
            StopHook(pulse, around.stop_request, StopFile(folder), self.saving.save),
        ]  # fmt: skip

    def _label(self, step: int) -> Label:
        """What a checkpoint holds besides tensors."""
        state = {
            "totals": asdict(self._metrics.totals()),
            "spikes": self._spikes.state(),
            "data": self._feed.order.past(step).to_json(),
            **self._around.facts,
        }
        return Label(step, state, len(self._rollbacks))

    def _evaluation(self) -> list[Hook]:
        """On the data's own validation split, if there is one, and on other corpora."""
        data, settings = self._around.data, self._around.config.evaluation
        found = []
        if data.held_out is not None:
            found.append(self._evaluated(data.held_out, data.held_out_cut, settings, None))
        windows = Cut(self._around.config.data.sequence_length, "concat")
        for name, source in data.others.items():
            found.append(self._evaluated(source, windows, settings.corpora[name], name))
        return found

    def _evaluated(
        self, source: Sequences, cut: Cut, settings: Evaluation | EvaluationCorpus, name: str | None
    ) -> Hook:
        around, mesh, config = self._around, self._around.engine.mesh, self._around.config
        mine = partial(batches, source, cut, config.batch.micro_size, settings.max_sequences,
                       noise=fixed_noise(config.objective, around.data.tokenizer))  # fmt: skip
        held_out = around.engine.group.agree(lambda: list(mine(mesh.data_rank, mesh.data_world_size)))
        byte_lengths = torch.as_tensor(around.data.tokenizer.byte_lengths())
        return EvaluationHook(
            around.engine, around.tracker, held_out, byte_lengths, settings.every_steps, self._beating, name
        )

    def _samples(self) -> list[Hook]:
        around, settings = self._around, self._around.config.evaluation.samples
        if settings is None:
            return []
        folder = Path(around.config.output)
        tokenizer = around.data.tokenizer
        return [around.engine.group.agree(lambda: SamplesHook(around.engine, tokenizer, settings, folder, around.beat))]

    def _profile(self, commit: Commit | None) -> list[Hook]:
        around, settings = self._around, self._around.config.tracking.profile
        rank = around.engine.group.ranks.rank
        if settings is None or rank not in settings.ranks:
            return []
        return [ProfileHook(Path(around.config.output), settings, rank, commit.step if commit else 0)]

    def _beating(self, micro_batches: list[MicroBatch]) -> Iterator[MicroBatch]:
        """The same, with a word to the watchdog before each."""
        for number, micro_batch in enumerate(micro_batches):
            self._around.beat(f"evaluation: batch {number}")
            yield micro_batch

    def _begins_anew(self, step: int) -> bool:
        """Whether other data begin with a step, counted from 1; a skip alone goes on with the same."""
        order = self._feed.order
        return step > 1 and not order.phase(step - 1).setting.comes_as(order.phase(step - 2).setting)

    def _can_go_back(self, first_step: int) -> bool:
        """Whether there is a checkpoint from before a spike; rank 0 is asked."""
        folder = Path(self._around.config.output)
        if min(committed_steps(folder / "checkpoints"), default=first_step) > last_good_step(first_step):
            _log.warning("no rollback: there is no checkpoint from before step %d", first_step)
            return False
        return True

    def _documents(self, step: int) -> str:
        """Some of the documents that a step, counted from 1, reads."""
        around = self._around
        start = Start(0, around.engine.mesh.data_world_size, around.config.batch.micro_size)
        run = Explained(Path(around.config.output), around.config, around.data, self._feed.order, self._end, step,
                        (start,), ())  # fmt: skip
        return some_documents(run, step)


def several_sources(data: TrainingData) -> tuple[str, ...]:
    """Names of the sources of training data by their numbers in batches; none if one is all there is."""
    names = tuple(data.source.shards)
    return names if len(names) > 1 else ()
