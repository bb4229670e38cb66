"""One start of a run, from its first or resumed step to its end or interruption, rollbacks on the way included."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.config.run import RunConfig
from pipeline.data.order import Order
from pipeline.engine.checkpoint.commit import Commit
from pipeline.engine.checkpoint.fragments import prepare
from pipeline.engine.checkpoint.loading import load_checkpoint
from pipeline.engine.checkpoint.saving import Saver
from pipeline.engine.engine import Engine
from pipeline.engine.filling import fill
from pipeline.engine.out_of_memory import largest_batch, require_host_memory
from pipeline.engine.partition import partitioned
from pipeline.engine.peak import peak_flops
from pipeline.engine.process_group import ProcessGroup
from pipeline.engine.settings import require_able
from pipeline.errors import CheckpointError, ConfigError, LockLostError, TarmacError
from pipeline.models.build import num_parameters
from pipeline.runtime.files import write_json, write_text
from pipeline.runtime.journal import Journal
from pipeline.runtime.lock import RunLock
from pipeline.runtime.logs import get_logger
from pipeline.runtime.signals import StopRequest
from pipeline.runtime.stop_file import StopFile
from pipeline.runtime.watchdog import Watchdog
from pipeline.stages.building import Ingredients, build, flops_per_token, open_base
from pipeline.stages.data.feed import DataFeed, End
from pipeline.stages.data.plan import order_of
from pipeline.stages.data.rollbacks import Rollback, read_rollbacks
from pipeline.stages.hooks import Hooks, Surroundings
from pipeline.stages.ingredients import TrainingData
from pipeline.stages.plan import count_parameters
from pipeline.stages.rollback import roll_back
from pipeline.stages.run_folder import environment, told
from pipeline.stages.seal import STATE_KEY, seal
from pipeline.stages.trained import Base, other_weights
from pipeline.stages.uploads import upload_seconds, uploader
from pipeline.train.hooks.checkpoints import tidy
from pipeline.train.hooks.spikes import GoBack
from pipeline.train.loop import StopTraining, run, steps
from pipeline.train.schedule import learning_rate_share
from pipeline.train.tracking.tensorboard import TensorBoard
from pipeline.train.tracking.terminal import Terminal
from pipeline.train.tracking.tracker import Composite, JsonLines
from pipeline.train.tracking.wandb import WandbTracker

_log = get_logger("train")


class Session:
    """One start of a run."""

    def __init__(
        self,
        config: RunConfig,
        data: TrainingData,
        group: ProcessGroup,
        commit: Commit | None,
        order: Order,
        lock: RunLock | None,
        watchdog: Watchdog,
    ) -> None:
        """Build the model and bring it to where the run stands; all ranks call it.

        Args:
            config: What the run is to do.
            data: What it learns from.
            group: All ranks.
            commit: The checkpoint that it goes on from; None at its beginning.
            order: The order of its samples from there on.
            lock: The run folder's, on rank 0.
            watchdog: Told of progress.

        Raises:
            TarmacError: In one sentence, on all ranks.
        """
        self._config, self._data, self._group, self._commit, self._order = config, data, group, commit, order
        self._lock, self._watchdog = lock, watchdog
        self._folder = Path(config.output)
        self._journal = Journal(self._folder)
        self._end = End(config, order)
        watchdog.beat("measuring the device")
        peak, self._peak_origin = peak_flops(group.device)
        self._peak = float(group.sum(torch.tensor([peak])))
        self._require_memory()
        watchdog.beat("building the model")
        base = group.agree(self._open_base)
        group.agree(lambda: require_able(config, group.ranks.world_size, group.device))
        building = partitioned(config, group)
        ingredients = group.agree(lambda: build(config, data.tokenizer, group.device, base, building))
        self._flops = partial(flops_per_token, config, ingredients.transformers_config)
        self._facts = {
            "tokenizer": data.tokenizer.fingerprint(), "base": base and base.to_json(),
            STATE_KEY: group.main_decides(lambda: self._sealed(ingredients)),
        }  # fmt: skip
        self._engine = self._start_engine(ingredients)
        self._rehearse()
        self._saver = Saver(
            self._engine, self._folder / "checkpoints", exclude_frozen=self._excludes_frozen,
            asynchronous=config.checkpoints.asynchronous, tidy=self._tidy,
        )  # fmt: skip
        self._uploader = group.agree(lambda: uploader(config, self._journal, self._facts[STATE_KEY]))
        if self._uploader is not None and commit is not None:
            self._uploader.offer(commit.step)

    def _require_memory(self) -> None:
        """On a GPU a rehearsal tells it better, once there is a model; of low-rank updates most weights are frozen."""
        if self._group.device.type == "cpu" and self._config.adapter.type == "none":
            number = count_parameters(self._config, self._data.tokenizer.vocab_size)
            require_host_memory(self._config, number, self._group)

    def _rehearse(self) -> None:
        """The largest batch of the run, before data are consumed: memory that is short is told of now."""
        if self._group.device.type == "cuda":
            self._watchdog.beat("rehearsing the largest batch")
            self._engine.rehearse(largest_batch(self._config, self._engine.mesh.data_world_size))

    def _open_base(self) -> Base | None:
        """What the run starts from, which must be what it started from when it began."""
        config, started_from = self._config, self._commit.state["base"] if self._commit else None
        base = open_base(config, self._data.tokenizer, started_from and started_from["step"])
        if self._commit is not None and started_from != (base and base.to_json()):
            raise other_weights(config.model, started_from["step"])
        return base

    def _sealed(self, ingredients: Ingredients) -> dict[str, str]:
        """The run's seal, made at its first start, after the last of what it covers is written."""
        if self._commit is not None:
            return self._commit.state[STATE_KEY]
        write_text(self._folder / "model.json", ingredients.transformers_config.to_json_string())
        return seal(self._folder)

    def _start_engine(self, ingredients: Ingredients) -> Engine:
        if self._group.ranks.is_main:
            self._record_facts(num_parameters(ingredients.loss))
            _log.info("%s parameters (%s trainable), %d ranks on %s", f"{num_parameters(ingredients.loss):,}",
                      f"{num_parameters(ingredients.loss, trainable_only=True):,}",
                      self._group.ranks.world_size, self._group.device)  # fmt: skip
        self._watchdog.beat("starting DeepSpeed")
        try:
            engine = Engine(ingredients.loss, self._config, self._group)
        except ConfigError as error:
            error.on_all_ranks = True  # it is about the model's form
            raise
        if self._commit is None or self._excludes_frozen:
            self._watchdog.beat("filling in the first weights")
            fill(engine, ingredients.weights, only_frozen=self._commit is not None)
        if self._commit is None:
            prepare(engine)
        else:
            self._load(engine, self._commit)
        return engine

    def _load(self, engine: Engine, commit: Commit) -> None:
        self._watchdog.beat(f"loading step {commit.step}")
        load_checkpoint(engine, self._folder / "checkpoints", commit, exclude_frozen=self._excludes_frozen)

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

    def run(self, stop_request: StopRequest, write_config: Callable[[], dict[str, list[Any]]]) -> int:
        """Train; returns the exit status.

        Args:
            stop_request: Tells that the run is to stop.
            write_config: Makes the config that of the run, and says what of it changed; rank 0 calls it.
        """
        rollbacks = self._group.main_decides(lambda: read_rollbacks(self._folder))
        tracker = self._group.agree(self._trackers)
        self._group.main_decides(lambda: self._write_start(len(rollbacks), write_config()))
        around = Surroundings(
            self._config, self._data, self._engine, self._saver, tracker, self._flops, self._peak, stop_request,
            self._lock, self._watchdog.beat, self._facts,
        )  # fmt: skip
        exit_code = None
        while exit_code is None:
            feed = DataFeed(self._config, self._data.source, self._order, self._group, self._journal,
                            self._data.tokenizer.pad_id, self._data.noise)  # fmt: skip
            hooks = Hooks(around, feed, self._end, self._commit, rollbacks)
            tracker.begin(self._commit.step if self._commit else 0)
            with self._ending(tracker, hooks):
                try:
                    reason, exit_code = self._train(feed, hooks)
                except GoBack as decision:
                    rollbacks = self._roll_back(feed, hooks, decision)
        self._finish(tracker, hooks, reason, exit_code)
        return exit_code

    @contextmanager
    def _ending(self, tracker: Composite, hooks: Hooks) -> Iterator[None]:
        """End in order also after an error of all ranks: what was saved before it is as good as ever."""
        try:
            yield
        except TarmacError as error:
            if error.on_all_ranks and not isinstance(error, LockLostError):
                self._settle(hooks)
                self._finish(tracker, hooks, str(error), error.exit_code)
            raise
        except BaseException:
            self._saver.close()  # under the lock and the watchdog: its thread may still write or delete
            raise
        finally:
            hooks.ledger.close()

    def _settle(self, hooks: Hooks) -> None:
        """Wait for a save that is under way; that it fails, too, must not hide the first error."""
        try:
            hooks.saving.settle()
        except CheckpointError as late:
            _log.error("the save that was under way failed, too: %s", late)

    def _train(self, feed: DataFeed, hooks: Hooks) -> tuple[str, int]:
        """Until the run ends or is to stop: why, and the exit status. Raises GoBack."""
        first_step = self._commit.step if self._commit else 0
        if self._end.is_last(first_step):  # a rollback may have passed over all that was left
            return self._end.reason(first_step), 0
        batches = feed.batches(first_step, self._end.num_steps)
        infos = steps(self._engine, batches, self._schedule(), self._end.is_last,
                      lambda: feed.waited_seconds, self._watchdog.beat)  # fmt: skip
        try:
            run(infos, hooks.all)
        except StopTraining as stopped:
            return stopped.reason, stopped.exit_code
        return self._end.reason(hooks.saving.last_saved), 0

    def _roll_back(self, feed: DataFeed, hooks: Hooks, decision: GoBack) -> tuple[Rollback, ...]:
        """Bring model and data to where the run goes on; all rollbacks by now."""
        self._watchdog.beat("rollback")
        hooks.saving.settle()
        most = self._config.faults.spikes.max_rollbacks
        self._commit = roll_back(self._group, self._folder, feed.order, decision, most)
        self._load(self._engine, self._commit)
        rollbacks = self._group.main_decides(lambda: read_rollbacks(self._folder))
        self._order = self._group.agree(lambda: order_of(self._config, self._data.source, self._commit, rollbacks))
        self._end = End(self._config, self._order)
        return rollbacks

    def _finish(self, tracker: Composite, hooks: Hooks, reason: str, exit_code: int) -> None:
        self._watchdog.beat("ending")
        self._saver.close()
        if not self._group.ranks.is_main:
            return
        if self._uploader is not None and exit_code == 0:
            self._uploader.finish(upload_seconds(self._config))
        self._journal.note("end", step=hooks.saving.last_saved, reason=reason, status=exit_code)
        self._watchdog.beat("ending: W&B")
        tracker.finish(exit_code)

    def _write_start(self, branch: int, changed: dict[str, list[Any]]) -> None:
        step = self._commit.step if self._commit else 0
        for line in told(changed):
            _log.warning("changed since the run was last started: %s", line)
        StopFile(self._folder).take()  # it asked the start before
        event = "resume" if self._commit else "start"
        self._journal.write(event, step=step, branch=branch, num_steps=self._end.num_steps,
                            world_size=self._group.ranks.world_size,
                            data_world_size=self._engine.mesh.data_world_size, micro_size=self._config.batch.micro_size,
                            changed=changed)  # fmt: skip
        _log.info("%s at step %d of %d", event, step, self._end.num_steps)
        self._end.warn()

    def _schedule(self) -> Callable[[int], float]:
        config, num_steps = self._config, self._end.num_steps
        return lambda step: learning_rate_share(
            config.schedule, step, num_steps, config.tokens_at, by_tokens=config.duration.tokens is not None
        )

    def _trackers(self) -> Composite:
        if not self._group.ranks.is_main:
            return Composite([])
        tracking = self._config.tracking
        trackers: list[Any] = [JsonLines(self._folder), Terminal(self._end.num_steps)]
        if tracking.tensorboard:
            trackers.append(TensorBoard(self._folder))
        if tracking.wandb.mode != "disabled":
            trackers.append(WandbTracker(self._folder, tracking.wandb, self._config.model_dump(mode="json")))
        return Composite(trackers)

    def _tidy(self, step: int) -> None:
        """After a commit, beside training: hand the checkpoint over for its copy, and delete old ones."""
        if self._lock is not None and self._lock.lost:
            return
        if self._uploader is not None:
            self._uploader.offer(step)
        tidy(self._folder, self._config.checkpoints, self._uploader.in_use() if self._uploader else ())
