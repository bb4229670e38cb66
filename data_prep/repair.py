"""`tarmac verify CORPUS --repair CONFIG`: make the bad shards again, and only these."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from data_prep.build import Builder, Built
from data_prep.corpus.existing import find_existing
from data_prep.corpus.output import link_outputs
from data_prep.executors import make_executor
from data_prep.plan import plan_sources
from data_prep.stage import work_folder
from data_prep.tasks.runner import Runner
from data_prep.tasks.store import Done
from data_prep.tokenizer.tasks import TrainTokenizerTask
from pipeline.config.prep.recipe import PrepConfig
from pipeline.config.stages import load_stage
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.index import index_path
from pipeline.corpus.verification import ShardFile, shard_fault, shard_files
from pipeline.errors import CorpusError
from pipeline.tokenizer.load import tokenizer_fault


def repair_corpus(folder: str, config_path: str) -> None:
    """Replace a corpus's bad shards, and its tokenizer if that is bad, by what the same config makes again.

    Raises:
        ConfigError: The config or the inputs are not those that the corpus was made from.
        CorpusError: What was made again has other bytes than the manifest says.
    """
    config = load_stage(config_path, [f"output={folder}"], allowed=("prep",))
    assert isinstance(config, PrepConfig)
    corpus = Corpus(Path(folder).absolute())
    bad = [file for file in shard_files(corpus) if shard_fault(file.path, file.entry)]
    tokenizer = tokenizer_fault(corpus.tokenizer_folder, corpus.manifest.tokenizer.fingerprint)
    if not bad and not tokenizer:
        return
    plans = plan_sources(config)
    find_existing(corpus.folder, config, plans, replace=False)
    with work_folder(config) as work, make_executor(config) as executor:
        runner = Runner(work, executor, Console(stderr=True))
        if tokenizer:
            shutil.rmtree(work / TrainTokenizerTask.phase, ignore_errors=True)  # it may be the same file as the bad one
        sampled = tuple(corpus.manifest.statistics["tokenizer_sources"])
        builder = Builder(config, runner, (), None if tokenizer else str(corpus.tokenizer_folder), sampled)
        built = builder.build(plans)
        _require_tokenizer(built, corpus.manifest.tokenizer.fingerprint)
        _forget(_tasks_of(bad, built), work)
        built = builder.build(plans)
        for file, done in zip(bad, _tasks_of(bad, built), strict=True):
            _replace(file, done, work, corpus.folder)
        if tokenizer:
            shutil.rmtree(corpus.tokenizer_folder, ignore_errors=True)
            link_outputs(built.tokenizer, work, corpus.folder)


def _require_tokenizer(built: Built, fingerprint: str) -> None:
    if built.tokenizer.result != fingerprint:
        raise CorpusError(
            "the tokenizer was made again as another one than the corpus has: Tarmac or sentencepiece is of another"
            " version than the corpus (see versions in manifest.json); install that one, or prepare the corpus anew"
        )


def _tasks_of(files: Sequence[ShardFile], built: Built) -> list[Done]:
    """The tasks that made some shards."""
    made = {
        (split, done.result.entry.name): done
        for source in built.sources
        for split, group in source.shards.items()
        for done in group
        if done.result.entry
    }
    return [made[file.split, file.entry.name] for file in files]


def _forget(tasks: Sequence[Done], work: Path) -> None:
    """Shards in the work folder may be the same files as the bad ones."""
    for done in tasks:
        shutil.rmtree(work / done.folder)


def _replace(file: ShardFile, done: Done, work: Path, folder: Path) -> None:
    if done.result.entry.sha256 != file.entry.sha256:
        raise CorpusError(
            f"{file.path} was made again with other bytes than the manifest says: Tarmac or a library is of another"
            " version than the corpus (see versions in manifest.json); install that one, or prepare the corpus anew"
        )
    file.path.unlink(missing_ok=True)
    index_path(file.path).unlink(missing_ok=True)
    link_outputs(done, work, folder)
