"""Training, from a config to a finished run: pre-training and fine-tuning alike."""

import shutil
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from pipeline.config.data import CorpusData
from pipeline.config.load import dump
from pipeline.config.run import RunConfig
from pipeline.data.holes import read_withdrawn, withdrawn_text
from pipeline.data.order import Order
from pipeline.engine.checkpoint.finding import newest_good
from pipeline.engine.checkpoint.shared_folder import prove_shared_folder
from pipeline.engine.process_group import ProcessGroup, told_in_one_sentence
from pipeline.errors import CorpusError
from pipeline.runtime.files import write_text
from pipeline.runtime.journal import Journal
from pipeline.runtime.lock import RunLock
from pipeline.runtime.logs import get_logger, set_up_logging
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.runtime.signals import StopRequest
from pipeline.stages.data.feed import End
from pipeline.stages.data.plan import order_of, withdrawn_files
from pipeline.stages.ingredients import TrainingData, open_data
from pipeline.stages.run_folder import make_run_folder, open_run
from pipeline.stages.seal import require_seal
from pipeline.stages.session import Session

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
    commit = newest_good(group, folder / "checkpoints", partial(tell_corrupt, Journal(folder)))
    group.main_decides(lambda: require_seal(folder, commit))
    order = group.agree(lambda: order_of(config, data.source, commit))
    group.require_same("config", dump(config))
    group.require_same("manifest or file of withdrawn documents", order.fingerprint())
    group.main_decides(lambda: _write_config(config))
    end = End(config, order)
    made = commit.step if commit else 0
    if end.is_last(made):
        return _nothing_left(config, order, made)
    return Session(config, data, group, commit, order, end).run(stop_request)


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


def tell_corrupt(journal: Journal, name: str, reason: str) -> None:
    """Note that a checkpoint was set aside."""
    _log.warning("checkpoint %s is damaged and set aside: %s", name, reason)
    journal.write("corrupt", name=name, reason=reason)
