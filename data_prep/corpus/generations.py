"""Which sources of a corpus came together, and from what those that came later are kept apart."""

from collections.abc import Sequence
from dataclasses import replace

from data_prep.filters.base import HeldOutSet
from data_prep.plan import SourcePlan
from data_prep.shards.held_out import NGRAMS_NAME, HeldOutShardTask, HeldOutTask
from data_prep.tasks.runner import Runner
from pipeline.config.prep.recipe import HeldOut, PrepConfig
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.manifest import Manifest, Split

_HELD_OUT: tuple[Split, ...] = ("validation", "test")


def generations(manifest: Manifest | None) -> list[list[str]]:
    """Names of a corpus's sources in the order in which they came: those of the first run, then of each append."""
    return [list(names) for names in manifest.statistics["generations"]] if manifest else []


def kept_apart(config: PrepConfig, plans: Sequence[SourcePlan], corpus: Corpus, runner: Runner) -> list[SourcePlan]:
    """Plans in which each source that was appended, or is to be, knows the held-out documents of those before it.

    Sources of one generation are not kept apart: their duplicates are removed together, before they are split.

    Raises:
        CorpusError: A held-out shard is damaged.
    """
    if config.held_out is None:
        return list(plans)
    made = generations(corpus.manifest)
    number_of = {name: number for number, names in enumerate(made) for name in names}
    numbers = [number_of.get(plan.source.name, len(made)) for plan in plans]
    known = {
        number: _held_out_set(config.held_out, [name for names in made[:number] for name in names], corpus, runner)
        for number in sorted(set(numbers))
    }
    return [replace(plan, held_out=known[number]) for plan, number in zip(plans, numbers, strict=True)]


def _held_out_set(config: HeldOut, sources: Sequence[str], corpus: Corpus, runner: Runner) -> HeldOutSet | None:
    """The n-grams of what is held out of some sources; None if that is nothing."""
    manifest = corpus.manifest
    tasks = [
        HeldOutShardTask(entry, manifest.dtype, manifest.tokenizer.fingerprint, config.ngram,
                         str(corpus.shard_path(split, source, entry)), str(corpus.tokenizer_folder))
        for source in sources
        for split in _HELD_OUT
        for entry in manifest.sources(split).get(source, ())
    ]  # fmt: skip
    if not tasks:
        return None
    shards = runner.run(tasks)
    checksums = tuple(output.xxh3 for done in shards for output in done.outputs)
    whole = runner.run([HeldOutTask(config.ngram, checksums, tuple(done.folder for done in shards))])[0]
    held_out = sum(done.result for done in shards)
    if whole.result < held_out:
        runner.tell(
            f"what is appended is compared with {whole.result:,} of the {held_out:,} documents that"
            f" {', '.join(sources)} hold out ({whole.result / held_out:.2%}): quotations of the others are not found;"
            " a smaller validation_share or test_share holds out less"
        )
    return HeldOutSet(whole.outputs[0].xxh3, config.ngram, config.max_share, f"{whole.folder}/{NGRAMS_NAME}")
