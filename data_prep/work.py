"""The work folder: taken by one job at a time; what need not stay goes when the corpus is complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.corpus.places import work_path
from data_prep.corpus.tidy import is_tidy, tidy
from data_prep.documents.runs import DOCUMENTS_NAME
from data_prep.executors.slurm import cancel_left_over
from data_prep.reading.task import ReadTask
from data_prep.report import write_corpus_report
from data_prep.tasks.corpora import read_record, remove_records, remove_unused, write_record
from data_prep.tasks.partial import clear_partial
from data_prep.tasks.store import forget, remove_tasks
from pipeline.config.prep.recipe import PrepConfig
from pipeline.errors import ConfigError
from pipeline.runtime.lock import RunLock


@contextmanager
def work_folder(config: PrepConfig) -> Iterator[Path]:
    """The folder of finished tasks, for this job alone."""
    work = work_path(config)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"work ({work}) cannot be made: {error.strerror}; choose another folder") from error
    with RunLock(work) as lock:
        cancel_left_over(work)  # an earlier start may have had another executor
        clear_partial(work)
        yield work
        clear_partial(work)  # what the workers of a killed job left that were not dead yet
        if config.keep_work == "nothing":
            remove_records(work)
            remove_tasks(work)
            lock.path.unlink()
    if not any(work.iterdir()):
        work.rmdir()


def settle(config: PrepConfig, output: Path, work: Path) -> None:
    """What comes when the corpus is complete: its report, and deleting what need not stay."""
    tidy(output)
    record = read_record(work, output)
    if record is None or record.is_settled:
        return
    write_corpus_report(output)
    if config.keep_work == "hashes":
        remove_unused(work, output)
        forget(work, (folder for folder in record.tasks if folder.startswith(ReadTask.phase)), (DOCUMENTS_NAME,))
    write_record(work, output, record.tasks, is_settled=True)


def settle_after_kill(config: PrepConfig, output: Path) -> None:
    """A job may have been killed when the corpus was complete and this was still to do, or while it appended."""
    record = read_record(work_path(config), output)
    if (record and not record.is_settled) or not is_tidy(output):
        with work_folder(config) as work:
            settle(config, output, work)
