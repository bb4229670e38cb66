"""The table at the end: what was read, what was dropped and why, and what it became."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from data_prep.reading.task import ReadTask
from data_prep.tasks.runner import Runner
from data_prep.tasks.store import Done
from pipeline.corpus.manifest import SPLIT_FOLDERS, Manifest, Split

_COLUMNS = ("source", "read", "kept", "held out", "text MB", "tokens", "bytes per token", "shards")


def print_table(console: Console, manifest: Manifest, pairs: Mapping[Split, int]) -> None:
    """Print a row for each source, and below them what each lost."""
    table = Table(title="corpus", title_justify="left", box=SIMPLE, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "source" else "right")
    sources = manifest.statistics["sources"]
    for name, figures in sources.items():
        table.add_row(*_row(name, figures, manifest))
    console.print(table)
    for name, figures in sources.items():
        for kind in ("rejected", "dropped"):
            if figures[kind] or kind == "dropped":
                console.print(f"{kind} from {name}: {_counts(figures[kind])}", highlight=False)
    if pairs:
        console.print(f"pairs: {pairs['train']:,} to learn, {pairs['validation']:,} held out", highlight=False)
    console.print(f"tokenizer: {manifest.tokenizer.vocab_size:,} pieces", highlight=False)


def print_speed(console: Console, timing: Mapping[str, Any]) -> None:
    """Print how long it took, and how much of it was found finished."""
    seconds = sum(timing["seconds"].values())
    megabytes = timing["megabytes_per_second"]
    speed = "nothing was read" if megabytes is None else f"{megabytes:.2f} MB/s"
    ran, tasks = sum(timing["tasks_run"].values()), sum(timing["tasks"].values())
    console.print(
        f"{seconds:.1f} s, {speed} with {timing['workers']} workers; {ran} of {tasks} tasks run", highlight=False
    )


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


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.items()) or "nothing"


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
