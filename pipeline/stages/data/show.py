"""`tarmac data` as people and programs read it: a block for each phase, then the whole run."""

import json
from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.config.run import RunConfig
from pipeline.stages.data.table import MOST_PACKED, DataTable, PhasePart, SourcePart, data_table
from pipeline.stages.ingredients import open_data


def print_data_table(config: RunConfig, as_json: bool = False) -> None:
    """Print it for people, or as a JSON object. Raises CorpusError, TokenizerError or ConfigError."""
    table = data_table(config, open_data(config).source)
    if as_json:
        print(json.dumps(asdict(table), ensure_ascii=False, indent=1))
    else:
        _print(config, table)


def _print(config: RunConfig, table: DataTable) -> None:
    console = Console(highlight=False)
    for part in table.phases:
        console.print(_heading(part), soft_wrap=True)
        console.print(_aligned(("Source", "Share", "Sequences", "Tokens", "Epochs", "Full"), map(_cells, part.sources)))
    console.print(f"[bold]{escape(config.output)}[/], all {config.num_steps:,} steps", soft_wrap=True)
    totals = ((escape(name), f"{number:,}", f"{table.epochs[name]:.2f}") for name, number in table.tokens.items())
    console.print(_aligned(("Source", "Tokens", "Epochs"), totals))
    if any(one.fill.is_estimated for part in table.phases for one in part.sources):
        console.print(f"~ is the mean of {MOST_PACKED} shards; tokens and epochs follow from it.", soft_wrap=True)
    for warning in table.warnings:
        console.print(f"[yellow]warning[/]: {escape(warning)}", soft_wrap=True)


def _heading(part: PhasePart) -> str:
    skipped = f", after {part.skipped_steps:,} skipped" if part.skipped_steps else ""
    return (
        f"[bold]steps {part.first_step + 1:,}–{part.last_step:,}[/]{skipped}: {part.global_size:,} sequences of"
        f" {part.sequence_length:,} tokens, {part.packing}"
    )


def _cells(one: SourcePart) -> tuple[str, ...]:
    full = f"{'~' if one.fill.is_estimated else ''}{one.fill.utilisation:.1%}"
    epochs = f"{one.first_epoch:.2f} → {one.last_epoch:.2f}"
    return escape(one.name), f"{one.weight:.1%}", f"{one.sequences:,}", f"{one.tokens:,}", epochs, full


def _aligned(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    """Columns without lines between them; in a narrow terminal a source's name is folded, and no figure cut."""
    table = Table(box=None, padding=(0, 0, 0, 2))
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=number > 0)
    for cells in rows:
        table.add_row(*cells)
    return table
