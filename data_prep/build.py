"""From inputs to shards, phase by phase. What is finished already is not done again."""

from collections.abc import Collection, Sequence

from data_prep.built import Built, BuiltSource
from data_prep.dedup.exact import Kept
from data_prep.dedup.near import NearDuplicates, find_near_duplicates
from data_prep.dedup.phase import deduplicate, source_reads
from data_prep.documents.runs import DOCUMENTS_NAME
from data_prep.documents.source import SourceDocuments, hash_ranges
from data_prep.documents.split import SplitShares, moved_documents, moved_together
from data_prep.pairs import PairTask
from data_prep.plan import SourcePlan, read_tasks, split_shares
from data_prep.reading.demands import require_documents, require_good_records
from data_prep.reading.probe import require_text
from data_prep.shards.task import ShardTask
from data_prep.tasks.runner import Runner
from data_prep.tasks.store import Done
from data_prep.tasks.task import Task
from data_prep.tokenizer.tasks import (
    ChooseEncoderTask,
    ChosenEncoder,
    GivenTokenizerTask,
    MeasureTask,
    SampledSource,
    TrainTokenizerTask,
)
from pipeline.config.prep.recipe import PrepConfig
from pipeline.config.prep.tokenizer import GivenTokenizer
from pipeline.corpus.manifest import SPLIT_FOLDERS, Split
from pipeline.tokenizer.load import load_tokenizer

_PAIR_BYTES = 4 * 2**20
"""About how much text one task makes pairs from."""


class Builder:
    """Runs the phases of one config."""

    def __init__(
        self,
        config: PrepConfig,
        runner: Runner,
        made: Collection[str] = (),
        tokenizer: str | None = None,
        only: Collection[tuple[str, Split, int]] | None = None,
    ) -> None:
        """Set up.

        Args:
            config: What to build.
            runner: Runs the tasks.
            made: Sources of which no shard is made: a corpus has them.
            tokenizer: Folder of the tokenizer to use in place of the config's.
            only: Source, split and number of each shard to make; all if not given.
        """
        self._config, self._runner, self._frozen = config, runner, tokenizer
        self._made, self._only = frozenset(made), only if only is None else frozenset(only)

    def build(self, plans: Sequence[SourcePlan]) -> Built:
        """Read, deduplicate, make the tokenizer, write the shards that are wanted.

        Raises:
            CorpusError: A source has no text, too many bad records or no document left, or the disk is full.
            TokenizerError: The tokenizer cannot be loaded or trained.
        """
        tasks = [read_tasks(self._config, plan) for plan in plans]
        for plan, group in zip(plans, tasks, strict=True):
            if self._runner.has_unfinished(group, (DOCUMENTS_NAME,)):
                require_text(plan.source, plan.files)
        reads = [
            self._runner.run(group, without=(DOCUMENTS_NAME,), source=plan.source.name)
            for plan, group in zip(plans, tasks, strict=True)
        ]
        for plan, done in zip(plans, reads, strict=True):
            require_good_records(plan.source, done, self._runner.work)
        near, kept, documents = self._deduplicate(plans, reads)
        tokenizer = self._tokenizer(plans, documents)
        shards = self._shards(plans, documents, tokenizer)
        pairs = self._pairs(plans, documents)
        rows = zip(plans, reads, kept, documents, shards, pairs, strict=True)
        return Built([BuiltSource(*row) for row in rows], tokenizer, near)

    def _deduplicate(
        self, plans: Sequence[SourcePlan], reads: Sequence[list[Done]]
    ) -> tuple[NearDuplicates, list[Kept], list[SourceDocuments]]:
        config = self._config
        sources = [source_reads(plan.source.name, done) for plan, done in zip(plans, reads, strict=True)]
        num_documents = sum(one.result.kept for done in reads for one in done)
        near = NearDuplicates()
        if config.dedup.minhash:
            near = find_near_duplicates(sources, self._runner)
        found = deduplicate(sources, num_documents, config.dedup.exact, near, self._runner)
        shares = SplitShares(config.validation_share, config.test_share)
        divided = {plan.source.name for plan in plans if plan.source.split is None}
        together = moved_together(shares, [left.extremes for name, (left, _) in found.items() if name in divided])
        kept, documents = [], []
        for plan, done, source in zip(plans, reads, sources, strict=True):
            left, gone = found[source.name]
            require_documents(plan.source.name, done, left)
            # without duplicates a text is in one source alone, whose shards are not to depend on the others
            alone = moved_documents(shares, left.extremes) if source.name in divided else {}
            moved = tuple((alone if config.dedup.exact else together).items())
            digest = f"{left.exact + left.near} {left.gone_digest:016x}"
            kept.append(left)
            documents.append(
                SourceDocuments(
                    source.name, source.documents_digest, digest, moved, left.text_bytes, source.folders, gone
                )
            )
        return near, kept, documents

    def _run_on_documents(self, plans: Sequence[SourcePlan], tasks: Sequence[Sequence[Task]]) -> list[list[Done]]:
        """Run each source's tasks, which open its documents."""
        for plan, group in zip(plans, tasks, strict=True):
            self._restore([plan], group)
        done = iter(self._runner.run([task for group in tasks for task in group]))
        return [[next(done) for _ in group] for group in tasks]

    def _restore(self, plans: Sequence[SourcePlan], tasks: Sequence[Task]) -> None:
        """Before tasks that open documents run: where a source's were deleted, it is read again."""
        if self._runner.has_unfinished(tasks):
            for plan in plans:
                self._runner.run(read_tasks(self._config, plan), source=plan.source.name)

    def _tokenizer(self, plans: Sequence[SourcePlan], documents: Sequence[SourceDocuments]) -> Done:
        config = self._config.tokenizer
        path = self._frozen or (config.path if isinstance(config, GivenTokenizer) else None)
        if path is not None:
            return self._runner.run([GivenTokenizerTask(load_tokenizer(path).fingerprint(), path)])[0]
        assert not isinstance(config, GivenTokenizer)
        total = sum(source.text_bytes for source in documents)
        budget = min(config.sample_bytes, total)
        samples = tuple(SampledSource(source, budget * source.text_bytes // (total or 1)) for source in documents)
        task = TrainTokenizerTask(config, samples)
        self._restore(plans, [task])
        return self._runner.run([task])[0]

    def _encoder(self, tokenizer: Done) -> str:
        """Name of what encodes."""
        task = ChooseEncoderTask(tokenizer.result, self._config.tokenizer.encoder, tokenizer.folder)
        chosen: ChosenEncoder = self._runner.run([task])[0].result
        if chosen.reason and self._config.tokenizer.encoder == "auto":
            self._runner.tell(f"texts are encoded slowly, by the tokenizer itself: {chosen.reason}")
        return chosen.name

    def _shards(
        self, plans: Sequence[SourcePlan], documents: Sequence[SourceDocuments], tokenizer: Done
    ) -> list[dict[Split, list[Done]]]:
        """Each source's shards; nothing for those of which none is made."""
        encoder, chosen = self._encoder(tokenizer), [plan.source.name not in self._made for plan in plans]
        measures = [
            [MeasureTask(source, tokenizer.result, encoder, tokenizer.folder)] if wanted else []
            for source, wanted in zip(documents, chosen, strict=True)
        ]
        measured = self._run_on_documents(plans, measures)
        tasks = [
            self._shard_tasks(plan, source, done[0].result, tokenizer, encoder) if done else []
            for plan, source, done in zip(plans, documents, measured, strict=True)
        ]
        found: list[dict[Split, list[Done]]] = []
        for group, done in zip(tasks, self._run_on_documents(plans, tasks), strict=True):
            found.append({})
            for task, one in zip(group, done, strict=True):
                found[-1].setdefault(task.split, []).append(one)
        return found

    def _shard_tasks(
        self, plan: SourcePlan, source: SourceDocuments, token_bytes: float, tokenizer: Done, encoder: str
    ) -> list[ShardTask]:
        config, held_out = self._config, split_shares(self._config, plan.source)
        shards = source.text_bytes / (token_bytes or 1) / config.shards.shard_tokens
        shares = {"train": 1.0, "validation": held_out.validation, "test": held_out.test}
        return [
            ShardTask(source, split, number, first, last, config.shards.chunk_tokens, tokenizer.result,
                      encoder, tokenizer.folder, config.shards.metadata)
            for split in SPLIT_FOLDERS
            if split != "test" or held_out.test
            for number, (first, last) in enumerate(hash_ranges(max(1, round(shards * shares[split]))))
            if self._only is None or (source.name, split, number) in self._only
        ]  # fmt: skip

    def _pairs(self, plans: Sequence[SourcePlan], documents: Sequence[SourceDocuments]) -> list[list[Done]]:
        if not self._config.pairs.enabled:
            return [[] for _ in plans]
        longest = self._config.pairs.max_answer_characters
        ranges = [hash_ranges(max(1, source.text_bytes // _PAIR_BYTES)) for source in documents]
        tasks = [
            [PairTask(source, first, last, longest) for first, last in group]
            for source, group in zip(documents, ranges, strict=True)
        ]
        return self._run_on_documents(plans, tasks)
