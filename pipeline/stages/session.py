"""One start of a run, from its first or resumed step to its end or interruption."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.config.run import RunConfig
from pipeline.data.order import Order
from pipeline.data.validation import batches
from pipeline.engine.checkpoint.commit import Commit
from pipeline.engine.checkpoint.fragments import prepare
from pipeline.engine.checkpoint.loading import load_checkpoint
from pipeline.engine.checkpoint.saving import Label, Saver
from pipeline.engine.engine import Engine
from pipeline.engine.peak import peak_flops
from pipeline.engine.process_group import ProcessGroup
from pipeline.errors import CheckpointError
from pipeline.models.build import num_parameters
from pipeline.models.flops import training_flops_per_token
from pipeline.runtime.files import read_json_lines, write_json, write_text
from pipeline.runtime.journal import Journal
from pipeline.runtime.logs import get_logger
from pipeline.runtime.signals import StopRequest
from pipeline.stages.data.feed import DataFeed, End
from pipeline.stages.ingredients import Ingredients, TrainingData, build
from pipeline.stages.run_folder import environment
from pipeline.stages.seal import STATE_KEY, seal
from pipeline.train.hooks.checkpoints import CheckpointHook, tidy
from pipeline.train.hooks.evaluation import EvaluationHook
from pipeline.train.hooks.ledger import Ledger
from pipeline.train.hooks.metrics import MetricsHook, Totals
from pipeline.train.hooks.stop import StopHook
from pipeline.train.loop import Hook, StopTraining, run, steps
from pipeline.train.pulse import Pulse
from pipeline.train.schedule import learning_rate_share
from pipeline.train.tracking.tracker import Composite, JsonLines
from pipeline.train.tracking.wandb import WandbTracker

_log = get_logger("train")


class Session:
    """One start of a run."""

    def __init__(self, config: RunConfig, data: TrainingData, group: ProcessGroup, commit: Commit | None, order: Order,
                 end: End) -> None:  # fmt: skip
        """Build the model and bring it to where the run stands; all ranks call it."""
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
        if self._commit is None:
            prepare(engine)
        else:
            load_checkpoint(engine, self._checkpoints, self._commit, exclude_frozen=self._excludes_frozen)
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
    def _checkpoints(self) -> Path:
        return self._folder / "checkpoints"

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
        pulse = Pulse(self._group)
        saver = Saver(
            self._engine, self._checkpoints, exclude_frozen=self._excludes_frozen,
            asynchronous=config.checkpoints.asynchronous, tidy=partial(tidy, self._folder, config.checkpoints),
        )  # fmt: skip
        saving = CheckpointHook(saver, self._folder, config.checkpoints, partial(self._label, metrics),
                                config.tokens_at, pulse, ranks.is_main)  # fmt: skip
        ledger = Ledger(self._folder, ranks.rank)
        stop = StopHook(pulse, stop_request, saving.save)
        hooks: list[Hook] = [pulse, ledger, metrics, *self._evaluation(tracker), saving, stop]
        exit_code = 0
        try:
            run(steps(self._engine, self._batches(), self._schedule(), self._end.is_last), hooks)
            reason = self._end.reason(saving.last_saved)
        except StopTraining as stopped:
            reason, exit_code = stopped.reason, stopped.exit_code
        saver.close()
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

    def _label(self, metrics: MetricsHook, step: int) -> Label:
        """What a checkpoint holds besides tensors."""
        state = {
            "totals": asdict(metrics.totals()),
            "data": self._feed.order.past(step).to_json(),
            "tokenizer": self._data.tokenizer.fingerprint(),
            "base": self._base_state,
            STATE_KEY: self._seal,
        }
        return Label(step, state)
