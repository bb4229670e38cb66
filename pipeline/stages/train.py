"""Training, from a config to a finished run: pre-training and fine-tuning alike."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.config.data import CorpusData
from pipeline.config.load import dump
from pipeline.config.run import RunConfig
from pipeline.data.holes import read_withdrawn, withdrawn_text
from pipeline.data.order import Order
from pipeline.data.validation import batches
from pipeline.engine.checkpoint.commit import Commit
from pipeline.engine.checkpoint.loading import load_checkpoint, newest_good
from pipeline.engine.checkpoint.saving import prove_shared_folder
from pipeline.engine.engine import Engine
from pipeline.engine.peak import peak_flops
from pipeline.engine.process_group import ProcessGroup, told_in_one_sentence
from pipeline.errors import CheckpointError, CorpusError
from pipeline.models.build import num_parameters
from pipeline.models.flops import training_flops_per_token
from pipeline.runtime.files import read_json_lines, write_json, write_text
from pipeline.runtime.journal import Journal
from pipeline.runtime.lock import RunLock
from pipeline.runtime.logs import get_logger, set_up_logging
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.runtime.signals import StopRequest
from pipeline.stages.data.feed import DataFeed, End
from pipeline.stages.data.plan import order_of, withdrawn_files
from pipeline.stages.ingredients import Ingredients, TrainingData, build, open_data
from pipeline.stages.run_folder import environment, make_run_folder, open_run
from pipeline.stages.seal import STATE_KEY, require_seal, seal
from pipeline.train.hooks.checkpoints import CheckpointHook
from pipeline.train.hooks.evaluation import EvaluationHook
from pipeline.train.hooks.ledger import Ledger
from pipeline.train.hooks.metrics import MetricsHook, Totals
from pipeline.train.hooks.stop import StopHook
from pipeline.train.loop import Hook, StopTraining, run, steps
from pipeline.train.schedule import learning_rate_share
from pipeline.train.tracking.tracker import Composite, JsonLines
from pipeline.train.tracking.wandb import WandbTracker

_log = get_logger("train")


def train(config: RunConfig) -> int:
    """Run or resume a training run on this rank; every rank of the job calls it. Returns the exit status.

    Raises:
        TarmacError: In one sentence, on all ranks.
    """
    ranks = ranks_from_environment()
    set_up_logging(ranks)
    with ExitStack() as stack:
        stop_request = stack.enter_context(closing(StopRequest()))
        group = stack.enter_context(ProcessGroup(ranks, config.engine.timeout_seconds))
        with told_in_one_sentence():
            data = group.agree(lambda: open_data(config))
            return _run(config, data, group, stop_request, stack)


def _run(
    config: RunConfig, data: TrainingData, group: ProcessGroup, stop_request: StopRequest, stack: ExitStack
) -> int:
    folder = Path(config.output)
    group.main_decides(lambda: _claim(config, data, stack))
    prove_shared_folder(group, folder)
    commit = newest_good(group, folder / "checkpoints", partial(_tell_corrupt, Journal(folder)))
    group.main_decides(lambda: require_seal(folder, commit))
    order = group.agree(lambda: order_of(config, data.source, commit))
    group.require_same("config", dump(config))
    group.require_same("manifest or file of withdrawn documents", order.fingerprint())
    group.main_decides(lambda: _write_config(config))
    end = End(config, order)
    made = commit.step if commit else 0
    if end.is_last(made):
        return _nothing_left(config, order, made)
    return _Session(config, data, group, commit, order, end).run(stop_request)


def _nothing_left(config: RunConfig, order: Order, made: int) -> int:
    if not made:
        raise CorpusError(
            f"data.at_end is stop, and the first step would see {', '.join(order.repeated(1))} twice;"
            f" lower batch.global_size ({config.batch.global_size}) or the source's weight"
        )
    _log.info("run %s is complete: %d steps", config.output, made)
    return 0


def _claim(config: RunConfig, data: TrainingData, stack: ExitStack) -> None:
    """Rank 0 makes and locks the run folder."""
    folder = Path(config.output)
    make_run_folder(config)
    stack.enter_context(RunLock(folder))
    if not (folder / "config.yaml").exists():
        open_run(config)
    if not (folder / "tokenizer").exists():
        staging = folder / "tokenizer.partial"
        shutil.rmtree(staging, ignore_errors=True)
        data.tokenizer.save(staging)
        staging.rename(folder / "tokenizer")


def _write_config(config: RunConfig) -> None:
    """Only now: a config that contradicts what was trained must not take the place of the one that does not."""
    open_run(config)
    for path in withdrawn_files(config.data) if isinstance(config.data, CorpusData) else ():
        digest, ids = read_withdrawn(path)
        copy = Path(config.output) / "withdrawn" / f"{digest}.txt"
        copy.parent.mkdir(exist_ok=True)
        write_text(copy, withdrawn_text(ids))


def _tell_corrupt(journal: Journal, name: str, reason: str) -> None:
    _log.warning("checkpoint %s is damaged and set aside: %s", name, reason)
    journal.write("corrupt", name=name, reason=reason)


class _Session:
    """One start of a run, from its first or resumed step to its end or interruption."""

    def __init__(self, config: RunConfig, data: TrainingData, group: ProcessGroup, commit: Commit | None, order: Order,
                 end: End) -> None:  # fmt: skip
        self._config, self._data, self._group, self._commit = config, data, group, commit
        self._folder = Path(config.output)
        self._journal = Journal(self._folder)
        self._first_step = commit.step if commit else 0
        self._end = end
        self._feed = DataFeed(config, data.source, order, group, self._journal, data.tokenizer.pad_id)
        peak, self._peak_origin = peak_flops(group.device)
        self._peak = float(group.sum(torch.tensor([peak])))
        started_from = commit.state["base"] if commit else None
        ingredients = group.agree(
            lambda: build(config, data.tokenizer, group.device, started_from and started_from["step"])
        )
        self._base_state = ingredients.base and {"step": ingredients.base.step, "digest": ingredients.base.digest}
        if commit is not None and started_from != self._base_state:
            raise CheckpointError(
                f"model.run {config.model.run} holds other weights at step {started_from['step']} than this run"
                " started from; restore that checkpoint"
            )
        self._flops = partial(training_flops_per_token, ingredients.transformers_config)
        self._seal = group.main_decides(lambda: self._sealed(ingredients))
        self._engine = self._start_engine(ingredients)

    def _sealed(self, ingredients: Ingredients) -> dict[str, str]:
        """The run's seal, made at its first start, after the last of what it covers is written."""
        if self._commit is not None:
            return self._commit.state[STATE_KEY]
        write_text(self._folder / "model.json", ingredients.transformers_config.to_json_string())
        return seal(self._folder)

    def _start_engine(self, ingredients: Ingredients) -> Engine:
        config = self._config
        if self._group.ranks.is_main:
            self._record_facts(num_parameters(ingredients.loss))
            _log.info("%s parameters (%s trainable), %d ranks on %s", f"{num_parameters(ingredients.loss):,}",
                      f"{num_parameters(ingredients.loss, trainable_only=True):,}",
                      self._group.ranks.world_size, self._group.device)  # fmt: skip
        engine = Engine(ingredients.loss, config, self._group)
        if self._commit is not None:
            load_checkpoint(engine, self._folder / "checkpoints", self._commit, self._excludes_frozen)
        return engine

    def _record_facts(self, parameters: int) -> None:
        """What the run is made by and on, for the report."""
        facts = {
            "parameters": parameters,
            "world_size": self._group.ranks.world_size,
            "device": str(self._group.device),
            "peak_flops": self._peak,
            "peak_origin": self._peak_origin,
        }
        write_json(self._folder / "environment.json", {**environment(), **facts})

    @property
    def _excludes_frozen(self) -> bool:
        return self._config.adapter.type != "none"

    def run(self, stop_request: StopRequest) -> int:
        """Train; returns the exit status."""
        config, ranks = self._config, self._group.ranks
        self._write_start()
        tracker = self._trackers()
        metrics = MetricsHook(
            self._engine, tracker, config.tracking.log_every_steps,
            Totals(**self._commit.state["totals"]) if self._commit else Totals(),
            config.tokens_by_length, self._flops, self._peak,
        )  # fmt: skip
        saving = CheckpointHook(
            self._engine, self._folder, config.checkpoints,
            partial(self._state, metrics), self._excludes_frozen,
        )  # fmt: skip
        ledger = Ledger(self._folder, ranks.rank)
        stop = StopHook(self._group, stop_request, saving.save)
        hooks: list[Hook] = [ledger, metrics, *self._evaluation(tracker), saving, stop]
        exit_code = 0
        try:
            run(steps(self._engine, self._batches(), self._schedule(), self._end.is_last), hooks)
            reason = self._end.reason(saving.last_saved)
        except StopTraining as stopped:
            reason, exit_code = stopped.reason, stopped.exit_code
        ledger.close()
        if ranks.is_main:
            self._journal.write("end", step=saving.last_saved, reason=reason)
            tracker.finish(exit_code)
        return exit_code

    def _write_start(self) -> None:
        if not self._group.ranks.is_main:
            return
        ends = [event["num_steps"] for event in self._journal.read() if "num_steps" in event]
        num_steps = self._end.num_steps
        if ends and ends[-1] != num_steps:
            _log.warning("the run now ends at step %d, not at %d; the learning rate is that of a run with this end",
                         num_steps, ends[-1])  # fmt: skip
        event = "resume" if self._commit else "start"
        self._journal.write(event, step=self._first_step, num_steps=num_steps, world_size=self._group.ranks.world_size,
                            micro_size=self._config.batch.micro_size)  # fmt: skip
        _log.info("%s at step %d of %d", event, self._first_step, num_steps)

    def _batches(self) -> Any:
        if self._group.ranks.is_main:
            self._end.warn()
        return self._feed.batches(self._first_step, self._end.num_steps)

    def _schedule(self) -> Callable[[int], float]:
        config, num_steps = self._config, self._end.num_steps
        if config.duration.tokens is None:
            return lambda step: learning_rate_share(config.schedule, step, num_steps)
        return lambda step: learning_rate_share(config.schedule, step, num_steps, config.tokens_at)

    def _trackers(self) -> Composite:
        if not self._group.ranks.is_main:
            return Composite([])
        tracking = self._config.tracking
        trackers: list[Any] = [JsonLines(self._folder)]
        if tracking.wandb.mode != "disabled":
            logged = max((row["step"] for row in read_json_lines(self._folder / "metrics.jsonl")), default=-1)
            trackers.append(WandbTracker(self._folder, tracking.wandb, self._config.model_dump(mode="json"), logged))
        return Composite(trackers)

    def _evaluation(self, tracker: Composite) -> list[Hook]:
        if self._data.held_out is None:
            return []
        settings, ranks = self._config.evaluation, self._group.ranks
        micro_size, data = self._config.batch.micro_size, self._data
        mine = batches(
            data.held_out, data.held_out_cut, micro_size, settings.max_sequences, ranks.rank, ranks.world_size
        )
        held_out = self._group.agree(lambda: list(mine))
        byte_lengths = torch.as_tensor(self._data.tokenizer.byte_lengths())
        return [EvaluationHook(self._engine, tracker, held_out, byte_lengths, settings.every_steps)]

    def _state(self, metrics: MetricsHook, step: int) -> dict[str, Any]:
        """What a checkpoint holds besides tensors. Raises DivergenceError, so that broken weights are never saved."""
        return {
            "totals": asdict(metrics.totals()),
            "data": self._feed.order.past(step).to_json(),
            "tokenizer": self._data.tokenizer.fingerprint(),
            "base": self._base_state,
            STATE_KEY: self._seal,
        }
