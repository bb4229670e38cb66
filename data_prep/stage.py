"""The stage: look at what is there, build what is missing, commit the corpus."""

from collections.abc import Sequence
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
from data_prep.executors import make_executor
from data_prep.filters import check_cleaning, check_filters
from data_prep.plan import SourcePlan, plan_sources
from data_prep.rehash import changed_sources, forget_changed
from data_prep.report.table import print_speed, print_table, timing
from data_prep.tasks.corpora import begin_record, write_record
from data_prep.tasks.runner import Runner
from data_prep.tokenizer.tasks import TOKENIZER_FOLDER
from data_prep.work import settle, settle_after_kill, work_folder
from pipeline.config.prep.recipe import PrepConfig
from pipeline.config.prep.tokenizer import GivenTokenizer
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.manifest import PREP_NAME, STATISTICS_NAME, Manifest, Split
from pipeline.errors import CorpusError
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
        settle_after_kill(config, output)
        console.print(f"{config.output} is already prepared by this config", highlight=False)
        _warn_of_dropped(config, existing.manifest, console)
        return output
    with work_folder(config) as work, make_executor(config) as executor:
        runner = Runner(work, executor, console)
        made = existing.manifest if existing else None
        apart = _kept_apart(config, plans, Corpus(output), runner) if made else plans
        if rehash and forget_changed(config, apart, runner, console, made, replace):
            made, apart, existing = None, plans, None
        if existing and existing.complete:
            settle(config, output, work)
            console.print("no input has changed", highlight=False)
        else:
            _make(config, output, apart, made, runner, console)
    return output


def _make(
    config: PrepConfig,
    output: Path,
    plans: Sequence[SourcePlan],
    before: Manifest | None,
    runner: Runner,
    console: Console,
) -> None:
    """Build a corpus, or what is to be appended to one, and tell what it has become."""
    made_by = begin_record(runner.work, output)
    built = _builder(config, runner, output, before).build(plans)
    _require_same_inputs(built, before)
    figures = timing(runner, (done for one in built.sources for done in one.reads))
    write_record(runner.work, output, runner.folders | (made_by if before else frozenset()))
    manifest, pairs = _commit(config, output, runner.work, built, before, figures)
    settle(config, output, runner.work)
    print_table(console, manifest, pairs)
    print_speed(console, figures)


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


def _warn_of_dropped(config: PrepConfig, manifest: Manifest, console: Console) -> None:
    """What filters drop is written while it is dropped, not afterwards."""
    lost = any(":" in reason for one in manifest.statistics["sources"].values() for reason in one["dropped"])
    if config.write_dropped and lost and not any(name.startswith("dropped/") for name in manifest.files):
        console.print(
            "write_dropped has come too late: dropped documents are written while inputs are read; move the corpus away"
            " and give the same command, which reads them again",
            highlight=False,
        )
