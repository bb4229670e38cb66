"""The table at the end: what was read, what was dropped and why, and what it became."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

from data_prep.reading.task import ReadTask
from data_prep.tasks.runner import Runner
from data_prep.tasks.store import Done
from pipeline.corpus.funnel import Funnel, Step, funnel
from pipeline.corpus.manifest import SPLIT_FOLDERS, Manifest, Split
from pipeline.runtime.columns import counted, print_columns

_COLUMNS = ("source", "read", "kept", "held out", "text MB", "tokens", "bytes per token", "shards")
_SHOWN_REASONS = 5


def print_table(console: Console, manifest: Manifest, pairs: Mapping[Split, int]) -> None:
    """Print a row for each source, and below them what each lost."""
    sources = manifest.statistics["sources"]
    print_columns(console, "corpus", _COLUMNS, [_row(name, figures, manifest) for name, figures in sources.items()])
    for name, figures in sources.items():
        for line in _losses(name, funnel(figures)):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if pairs:
        console.print(f"pairs: {pairs['train']:,} to learn, {pairs['validation']:,} held out", highlight=False)
    console.print(f"tokenizer: {manifest.tokenizer.vocab_size:,} pieces", highlight=False)


def print_speed(console: Console, timing: Mapping[str, Any]) -> None:
    """Print how long it took, and how much of it was found finished."""
    seconds = sum(timing["seconds"].values())
    megabytes = timing["megabytes_per_second"]
    speed = "nothing was read" if megabytes is None else f"{megabytes:.2f} MB/s"
    workers, ran = counted(timing["workers"], "worker"), sum(timing["tasks_run"].values())
    tasks = counted(sum(timing["tasks"].values()), "task")
    console.print(f"{seconds:.1f} s, {speed} with {workers}; {ran:,} of {tasks} run", highlight=False)


def timing(runner: Runner, reads: Iterable[Done]) -> dict[str, Any]:
    """How long each phase took, and how fast that is for the text that reading tasks read in this run."""
    seconds = sum(runner.seconds.values())
    read_bytes = sum(done.result.text_bytes for done in reads if done.folder in runner.ran[ReadTask.phase])
    return {
        "seconds": {phase: round(value, 3) for phase, value in runner.seconds.items()},
        "megabytes_per_second": round(read_bytes / 1e6 / seconds, 3) if read_bytes else None,
        "workers": runner.executor.workers,
        "tasks": {phase: len(folders) for phase, folders in runner.tasks.items()},
        "tasks_run": {phase: len(runner.ran[phase]) for phase in runner.tasks},
    }


def _losses(name: str, found: Funnel) -> list[str]:
    """A line for each step that took records of a source."""
    lines = [f"{name}: {step.name} {step.lost:,}{_reasons(step)}" for step in found.steps]
    return lines or [f"{name}: nothing was dropped"]


def _reasons(step: Step) -> str:
    """The commonest reasons of a step that has several."""
    reasons = {reason: count for reason, count in step.reasons.items() if reason}
    first = sorted(reasons, key=lambda reason: (-reasons[reason], reason))[:_SHOWN_REASONS]
    more = [f"{len(reasons) - len(first)} more"] if len(reasons) > len(first) else []
    shown = ", ".join([*(f"{reason} {reasons[reason]:,}" for reason in first), *more])
    return f" ({shown})" if shown else ""


def _row(name: str, figures: Mapping[str, Any], manifest: Manifest) -> list[str]:
    splits = {split: manifest.sources(split).get(name, []) for split in SPLIT_FOLDERS}
    shards = [shard for group in splits.values() for shard in group]
    tokens = sum(shard.tokens for shard in shards)
    return [
        name,
        f"{figures['read']:,}",
        f"{figures['kept']:,}",
        f"{sum(shard.documents for split, group in splits.items() if split != 'train' for shard in group):,}",
        f"{figures['text_bytes'] / 1e6:.2f}",
        f"{tokens:,}",
        f"{figures['text_bytes'] / tokens:.3f}",
        " + ".join(str(len(group)) for group in splits.values() if group),
    ]
