"""The stage: look at what is there, build what is missing, commit the corpus."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from data_prep.build import Builder
from data_prep.built import Built
from data_prep.corpus.existing import find_existing, inputs_sha256
from data_prep.corpus.generations import kept_apart
from data_prep.corpus.manifest import make_manifest, make_statistics
from data_prep.corpus.output import CorpusFolder
from data_prep.corpus.places import output_path, work_path
from data_prep.corpus.tidy import is_tidy, tidy
from data_prep.documents.runs import DOCUMENTS_NAME
from data_prep.executors import make_executor
from data_prep.executors.slurm import cancel_left_over
from data_prep.filters import check_cleaning, check_filters
from data_prep.plan import SourcePlan, plan_sources
from data_prep.reading.task import ReadTask
from data_prep.rehash import changed_sources, forget_changed
from data_prep.report import write_corpus_report
from data_prep.report.table import print_speed, print_table, timing
from data_prep.tasks.corpora import begin_record, read_record, remove_records, remove_unused, write_record
from data_prep.tasks.partial import clear_partial
from data_prep.tasks.runner import Runner
from data_prep.tasks.store import forget, remove_tasks
from data_prep.tokenizer.tasks import TOKENIZER_FOLDER
from pipeline.config.prep.recipe import PrepConfig
from pipeline.config.prep.tokenizer import GivenTokenizer
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.manifest import PREP_NAME, STATISTICS_NAME, Manifest, Split
from pipeline.errors import ConfigError, CorpusError
from pipeline.runtime.lock import RunLock
from pipeline.tokenizer.load import load_tokenizer, tokenizer_fault


def prep(config: PrepConfig, console: Console | None = None, replace: bool = False, rehash: bool = False) -> Path:
    """Prepare a corpus and return its folder. What is finished already is not done again.

    Args:
        config: What to prepare.
        console: Where progress and the table go; standard error if not given.
        replace: Whether a finished corpus of another config or of other inputs may be replaced.
        rehash: Whether inputs are read to see if their bytes changed while names, sizes and times did not.

    Raises:
        ConfigError: The output is something else, or an input is missing.
        CorpusError: An input cannot be read, a source yields no document, or there is no room on the disk.
        TokenizerError: The tokenizer cannot be loaded or trained.
    """
    console = console or Console(stderr=True)
    output = output_path(config)
    _check_early(config)
    plans = plan_sources(config)
    existing = find_existing(output, config, plans, replace)
    if existing and existing.complete and not rehash:
        _settle_after_kill(config, output)
        console.print(f"{config.output} is already prepared by this config", highlight=False)
        _warn_of_dropped(config, existing.manifest, console)
        return output
    with work_folder(config) as work, make_executor(config) as executor:
        runner = Runner(work, executor, console)
        made = existing.manifest if existing else None
        apart = _kept_apart(config, plans, Corpus(output), runner) if made else plans
        if rehash and forget_changed(config, apart, runner, console, made, replace):
            existing = None
        if existing and existing.complete:
            _settle(config, output, work)
            console.print("no input has changed", highlight=False)
            return output
        before = existing.manifest if existing else None
        made_by = begin_record(work, output)
        built = _builder(config, runner, output, before).build(apart if before else plans)
        _require_same_inputs(built, before)
        figures = timing(runner, (done for one in built.sources for done in one.reads))
        write_record(work, output, runner.folders | (made_by if before else frozenset()))
        manifest, pairs = _commit(config, output, work, built, before, figures)
        _settle(config, output, work)
    print_table(console, manifest, pairs)
    print_speed(console, figures)
    return output


def _kept_apart(
    config: PrepConfig, plans: Sequence[SourcePlan], corpus: Corpus, runner: Runner
) -> Sequence[SourcePlan]:
    """Plans for a corpus that is there, whose tokenizer reads what it holds out and encodes what is appended."""
    fault = tokenizer_fault(corpus.tokenizer_folder, corpus.manifest.tokenizer.fingerprint)
    if fault:
        raise CorpusError(
            f"output ({corpus.folder}): the tokenizer {fault};"
            f" mend it with `tarmac verify {corpus.folder} --repair CONFIG` first"
        )
    return kept_apart(config, plans, corpus, runner)


def _builder(config: PrepConfig, runner: Runner, output: Path, before: Manifest | None) -> Builder:
    """For a corpus that is there, its tokenizer is used, and the shards that it has are not made again."""
    if before is None:
        return Builder(config, runner)
    return Builder(config, runner, before.statistics["sources"], str(output / TOKENIZER_FOLDER))


def _require_same_inputs(built: Built, before: Manifest | None) -> None:
    """Where nothing of them was stored, sources that the corpus has were read again, to find what is appended twice."""
    found = {one.plan.source.name: [done.result.inputs for done in one.reads] for one in built.sources}
    if changed := changed_sources(found, before):
        raise CorpusError(
            f"inputs of {', '.join(changed)} have other bytes than the corpus was made from, though their names, sizes"
            " and times are the same; give --rehash and --replace to make it anew"
        )


def _check_early(config: PrepConfig) -> None:
    """A wrong path is better told now than after hours of reading."""
    work_path(config)
    if isinstance(config.tokenizer, GivenTokenizer):
        load_tokenizer(config.tokenizer.path)
    check_cleaning(config.cleaning)
    for filters in (config.filters, *(source.filters or () for source in config.sources)):
        check_filters(filters)


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


def _commit(
    config: PrepConfig, output: Path, work: Path, built: Built, before: Manifest | None, figures: dict[str, Any]
) -> tuple[Manifest, dict[Split, int]]:
    manifest = make_manifest(config, built, work, before)
    inputs = {one.plan.source.name: inputs_sha256(config, one.plan) for one in built.sources}
    files = {PREP_NAME: {**figures, "inputs": inputs}, STATISTICS_NAME: make_statistics(built, work, output, before)}
    folder = CorpusFolder(output, work)
    fill = folder.append if before else folder.create
    try:
        return manifest, fill(built, manifest, files, config.seed)
    except OSError as error:
        raise CorpusError(
            f"output ({config.output}) cannot be written: {error.strerror or error}; make room or choose another"
            " folder, then give the same command: finished tasks are kept"
        ) from error


def _settle(config: PrepConfig, output: Path, work: Path) -> None:
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


def _warn_of_dropped(config: PrepConfig, manifest: Manifest, console: Console) -> None:
    """What filters drop is written while it is dropped, not afterwards."""
    lost = any(":" in reason for one in manifest.statistics["sources"].values() for reason in one["dropped"])
    if config.write_dropped and lost and not any(name.startswith("dropped/") for name in manifest.files):
        console.print(
            "write_dropped has come too late: dropped documents are written while inputs are read; move the corpus away"
            " and give the same command, which reads them again",
            highlight=False,
        )


def _settle_after_kill(config: PrepConfig, output: Path) -> None:
    """A job may have been killed when the corpus was complete and this was still to do, or while it appended."""
    record = read_record(work_path(config), output)
    if (record and not record.is_settled) or not is_tidy(output):
        with work_folder(config) as work:
            _settle(config, output, work)
