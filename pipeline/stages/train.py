"""Training, from a config to a finished run: pre-training and fine-tuning alike."""

import secrets
import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config.data import CorpusData
from pipeline.config.load import dump
from pipeline.config.run import RunConfig
from pipeline.data.holes import read_withdrawn, withdrawn_text
from pipeline.data.order import Order
from pipeline.engine.checkpoint.commit import Commit
from pipeline.engine.checkpoint.finding import newest_good
from pipeline.engine.checkpoint.shared_folder import prove_shared_folder
from pipeline.engine.mesh import mesh_of
from pipeline.engine.out_of_memory import out_of_memory_told
from pipeline.engine.process_group import ProcessGroup, known_everywhere, told_in_one_sentence
from pipeline.errors import CheckpointError, CorpusError
from pipeline.runtime.files import write_text
from pipeline.runtime.journal import Journal
from pipeline.runtime.lock import RunLock
from pipeline.runtime.logs import get_logger, set_up_logging
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.runtime.signals import StopRequest
from pipeline.runtime.watchdog import Watchdog
from pipeline.stages.data.feed import End
from pipeline.stages.data.plan import order_of, withdrawn_files
from pipeline.stages.data.rollbacks import read_rollbacks
from pipeline.stages.ingredients import TrainingData, open_data
from pipeline.stages.rollback import leave_behind, tell_corrupt
from pipeline.stages.run_folder import changes, has_begun, make_run_folder, open_run
from pipeline.stages.seal import STATE_KEY, require_seal
from pipeline.stages.session import Session
from pipeline.stages.uploads import upload_seconds, uploader

_log = get_logger("train")

_ENDING_SECONDS = 30
"""A hang is told of, at most so long after it was noticed."""


def train(config: RunConfig, stop_request: StopRequest) -> int:
    """Run or resume a training run on this rank; every rank of the job calls it. Returns the exit status.

    Args:
        config: The run.
        stop_request: Remembers the signals that ask this rank to stop.

    Raises:
        TarmacError: In one sentence, on all ranks.
    """
    ranks = ranks_from_environment()
    set_up_logging(ranks)
    with ExitStack() as stack:
        group = stack.enter_context(ProcessGroup(ranks, config.engine.timeout_seconds))
        with told_in_one_sentence(), out_of_memory_told(config, group):
            group.agree(lambda: mesh_of(config.engine, ranks.rank, ranks.world_size))
            data = group.agree(lambda: open_data(config))
            return _run(config, data, group, stop_request, stack)


def _run(
    config: RunConfig, data: TrainingData, group: ProcessGroup, stop_request: StopRequest, stack: ExitStack
) -> int:
    folder, lock = Path(config.output), RunLock(config.output) if group.ranks.is_main else None
    group.main_decides(lambda: _claim(config, data, stack, lock))
    prove_shared_folder(group, folder)
    watchdog = stack.enter_context(_watchdog(config, group))
    watchdog.beat("verifying checkpoints")
    group.main_decides(lambda: leave_behind(folder / "checkpoints", read_rollbacks(folder)))
    commit = newest_good(group, folder / "checkpoints", partial(tell_corrupt, Journal(folder)))
    group.main_decides(lambda: require_seal(folder, commit))
    watchdog.beat("ordering the data")
    rollbacks = group.main_decides(lambda: read_rollbacks(folder))
    if rollbacks and commit is None:
        raise known_everywhere(CheckpointError(
            f"run {folder} was rolled back and has no checkpoint any more; bring one back, or choose another output"
        ))  # fmt: skip
    order = group.agree(lambda: order_of(config, data.source, commit, rollbacks))
    group.require_same("config", dump(config))
    group.require_same("manifest or file of withdrawn documents", order.fingerprint())
    made = commit.step if commit else 0
    if group.agree(lambda: End(config, order).is_last(made)):
        group.main_decides(lambda: _copy_last(config, commit))
        return _nothing_left(config, order, made)
    session = Session(config, data, group, commit, order, lock, watchdog)
    return session.run(stop_request, partial(_write_config, config))


def _watchdog(config: RunConfig, group: ProcessGroup) -> Watchdog:
    """Watches this rank; all ranks call it."""
    seconds = config.faults.watchdog_seconds
    if group.ranks.is_main and seconds + _ENDING_SECONDS > config.engine.timeout_seconds:
        _log.warning("a collective ends after engine.timeout_seconds (%d), before the watchdog could tell where a rank"
                     " hangs (faults.watchdog_seconds: %g)", config.engine.timeout_seconds, seconds)  # fmt: skip
    job = group.main_decides(lambda: secrets.token_hex(8))
    return group.agree(lambda: Watchdog(config.output, group.ranks, seconds, job, group.abort))


def _nothing_left(config: RunConfig, order: Order, made: int) -> int:
    if not made:
        raise CorpusError(
            f"data.at_end is stop, and the first step would see {', '.join(order.repeated(1))} twice;"
            f" lower batch.global_size ({config.batch.global_size}) or the source's weight"
        )
    _log.info("run %s is complete: %d steps", config.output, made)
    return 0


def _copy_last(config: RunConfig, commit: Commit | None) -> None:
    """A finished run whose last copy failed gets it by the same command."""
    copies = uploader(config, Journal(config.output), commit.state[STATE_KEY]) if commit else None
    if copies is not None and commit is not None:
        copies.offer(commit.step)
        copies.finish(upload_seconds(config))


def _claim(config: RunConfig, data: TrainingData, stack: ExitStack, lock: RunLock | None) -> None:
    """Rank 0 makes and locks the run folder."""
    assert lock is not None
    folder = Path(config.output)
    make_run_folder(config)
    stack.enter_context(lock)
    if not has_begun(folder):
        open_run(config)
        shutil.rmtree(folder / "tokenizer", ignore_errors=True)  # of a start that was refused
    if not (folder / "tokenizer").exists():
        staging = folder / "tokenizer.partial"
        shutil.rmtree(staging, ignore_errors=True)
        data.tokenizer.save(staging)
        staging.rename(folder / "tokenizer")


def _write_config(config: RunConfig) -> dict[str, list[Any]]:
    """What of it changed. Written when training begins: a start that fails before leaves what was trained by."""
    changed = changes(config)
    open_run(config)
    for path in withdrawn_files(config.data) if isinstance(config.data, CorpusData) else ():
        digest, ids = read_withdrawn(path)
        copy = Path(config.output) / "withdrawn" / f"{digest}.txt"
        copy.parent.mkdir(exist_ok=True)
        write_text(copy, withdrawn_text(ids))
    return changed
