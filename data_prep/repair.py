"""`tarmac verify CORPUS --repair CONFIG`: make the bad shards again, and only these."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from data_prep.build import Builder
from data_prep.built import Built
from data_prep.corpus.existing import find_existing
from data_prep.corpus.generations import generations, kept_apart
from data_prep.corpus.output import link_outputs
from data_prep.executors import make_executor
from data_prep.plan import SourcePlan, plan_sources
from data_prep.shards.task import ShardTask
from data_prep.tasks.runner import Runner
from data_prep.tasks.store import Done
from data_prep.tokenizer.tasks import TrainTokenizerTask
from data_prep.work import work_folder
from pipeline.config.prep.recipe import Pairs, PrepConfig
from pipeline.config.stages import load_stage
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.index import index_path
from pipeline.corpus.manifest import Split
from pipeline.corpus.verification import ShardFile, shard_fault, shard_files
from pipeline.errors import CorpusError
from pipeline.runtime.threads import in_threads
from pipeline.tokenizer.load import tokenizer_fault

_CURE = (
    "Tarmac or a library is of another version than the corpus (see versions in manifest.json); install that one, or"
    " prepare the corpus anew"
)


def repair_corpus(folder: str, config_path: str) -> None:
    """Replace a corpus's bad shards, and its tokenizer if that is bad, by what the same config makes again.

    Raises:
        ConfigError: The config or the inputs are not those that the corpus was made from.
        CorpusError: What was made again has other bytes than the manifest says.
    """
    config = load_stage(config_path, [f"output={folder}"], allowed=("prep",))
    assert isinstance(config, PrepConfig)
    corpus = Corpus(Path(folder).absolute())
    console, files = Console(stderr=True), shard_files(corpus)
    faults = in_threads(lambda file: shard_fault(file.path, file.entry), files, "verifying", console)
    bad = [file for file, fault in zip(files, faults, strict=True) if fault]
    is_spoilt = tokenizer_fault(corpus.tokenizer_folder, corpus.manifest.tokenizer.fingerprint) is not None
    if not bad and not is_spoilt:
        return
    plans = plan_sources(config)
    find_existing(corpus.folder, config, plans, replace=False)
    with work_folder(config) as work, make_executor(config) as executor:
        repair = _Repair(config, corpus, Runner(work, executor, console))
        repair.forget(bad, is_spoilt)
        repair.run(plans, bad, is_spoilt)


class _Repair:
    """Makes parts of a corpus again."""

    def __init__(self, config: PrepConfig, corpus: Corpus, runner: Runner) -> None:
        self._config = config.model_copy(update={"pairs": Pairs()})  # they are no shards
        self._corpus, self._runner, self._work = corpus, runner, runner.work

    def forget(self, bad: Iterable[ShardFile], is_spoilt: bool) -> None:
        """Forget tasks that may have left the same files as the bad ones."""
        shards = self._work / ShardTask.phase
        for file in bad:
            for path in shards.glob(f"*/{file.path.relative_to(self._corpus.folder)}"):
                shutil.rmtree(shards / path.relative_to(shards).parts[0])
        if is_spoilt:
            shutil.rmtree(self._work / TrainTokenizerTask.phase, ignore_errors=True)

    def run(self, plans: Sequence[SourcePlan], bad: Sequence[ShardFile], is_spoilt: bool) -> None:
        """Repair generation by generation: sources that came later were kept apart from held-out shards before them."""
        count = 0
        for names in generations(self._corpus.manifest):
            count += len(names)
            ours = [file for file in bad if file.source in names]
            if ours or is_spoilt:
                self._generation(plans[:count], ours, is_spoilt)
            is_spoilt = False

    def _generation(self, plans: Sequence[SourcePlan], bad: Sequence[ShardFile], is_spoilt: bool) -> None:
        plans = kept_apart(self._config, plans, self._corpus, self._runner)
        made = {plan.source.name for plan in plans} - {file.source for file in bad}
        tokenizer = None if is_spoilt else str(self._corpus.tokenizer_folder)
        only = [(file.source, file.split, _number(file)) for file in bad]
        built = Builder(self._config, self._runner, made, tokenizer, only).build(plans)
        if is_spoilt:
            self._replace_tokenizer(built.tokenizer)
        found = _shards(built)
        for file in bad:
            self._replace(file, found.get((file.split, file.entry.name)))

    def _replace_tokenizer(self, done: Done) -> None:
        if done.result != self._corpus.manifest.tokenizer.fingerprint:
            raise CorpusError(f"the tokenizer was made again as another one than the corpus has: {_CURE}")
        shutil.rmtree(self._corpus.tokenizer_folder, ignore_errors=True)
        link_outputs(done, self._work, self._corpus.folder)

    def _replace(self, file: ShardFile, done: Done | None) -> None:
        if done is None or done.result.entry is None or done.result.entry.sha256 != file.entry.sha256:
            raise CorpusError(f"{file.path} was made again with other bytes than the manifest says: {_CURE}")
        file.path.unlink(missing_ok=True)
        index_path(file.path).unlink(missing_ok=True)
        link_outputs(done, self._work, self._corpus.folder)


def _number(file: ShardFile) -> int:
    return int(file.path.stem.rpartition("-")[2])


def _shards(built: Built) -> dict[tuple[Split, str], Done]:
    """Tasks by the split and name of the shards that they left."""
    return {
        (split, done.result.entry.name): done
        for source in built.sources
        for split, group in source.shards.items()
        for done in group
        if done.result.entry
    }
