"""What is explained, for people and for programs."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.stages.explain.document import DocumentTimes
from pipeline.stages.explain.step import Reading, Row, StepRows

_SHOWN = 160
"""Characters of a text that are shown of its beginning and of its end together."""


def print_json(found: StepRows | DocumentTimes) -> None:
    """One JSON object."""
    print(json.dumps(asdict(found), ensure_ascii=False, indent=1))


def print_step(step: StepRows, full: bool) -> None:
    """A block for each sequence: where it is, and under it each document with its text, cut unless `full`."""
    console = Console(highlight=False)
    when = "trained" if step.is_trained else "to come"
    when += f"; branch {step.branch}" * bool(step.branch)
    when += f"; abandoned before: {step.num_abandoned}" * bool(step.num_abandoned)
    console.print(
        f"[bold]{escape(step.run)}, step {step.step}[/] ({when}): {step.global_size} sequences of"
        f" {step.sequence_length} tokens; ranks: {step.world_size}, micro batch: {step.micro_size}",
        soft_wrap=True,
    )
    for row in step.rows:
        console.print("\n".join(["", *_block(row, full)]), soft_wrap=True)


def _block(row: Row, full: bool) -> Iterator[str]:
    yield (
        f"[bold]sample {row.sample}[/]  rank {row.rank}, micro batch {row.micro_batch}, row {row.row}"
        f"  [cyan]{escape(row.source)}[/] epoch {row.epoch}, shard {row.shard}, sequence {row.sequence}"
    )
    for reading in row.documents:
        yield f"  [green]{escape(_named(reading))}[/]"
        yield from (f"    [dim]│[/] {escape(line)}" for line in _text(reading.text, full).splitlines())


def _named(reading: Reading) -> str:
    if not reading.id:
        return f"{reading.origin}:{reading.position}"
    stretch = f"tokens {reading.first_token}–{reading.last_token} of {reading.document_tokens}"
    kept = "".join(f"  {key}={value}" for key, value in reading.metadata.items())
    withdrawn = "  withdrawn: padding is read" if reading.is_withdrawn else ""
    return f"{reading.origin}#{reading.position}  {reading.id}  {stretch}{kept}{withdrawn}"


def _text(text: str, full: bool) -> str:
    """Without what a terminal would obey; in one line, and without its middle, unless the whole is wanted."""
    if full:
        return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)
    line = " ".join(text.split())
    line = line if len(line) <= _SHOWN else f"{line[: _SHOWN // 2]} … {line[-_SHOWN // 2 :]}"
    return "".join(char if char.isprintable() else "�" for char in line)


def print_document(times: DocumentTimes) -> None:
    """Where the document is, and a table of the sequences that hold it."""
    console = Console(highlight=False)
    console.print(
        f"[bold]{escape(times.origin)}#{times.position}[/]  {times.id}",
        *(escape(f"{key}={value}") for key, value in times.metadata.items()),
        *(
            f"[cyan]{escape(one.source)}[/], shard {one.shard}, tokens {one.first_token}–{one.first_token + one.tokens}"
            for one in times.places
        ),
        f"trained: {times.num_trained} of {times.num_steps} steps",
        sep="\n",
        soft_wrap=True,
    )
    if not times.seen:
        console.print(f"It is not seen in any of the {times.num_steps} steps.")
        return
    table = Table("Step", "", "Source", "Epoch", "Shard", "Sequence", "Rank", "Micro batch", "Row")
    for one in times.seen:
        when = "withdrawn" if one.is_withdrawn else "seen" if one.is_trained else "to come"
        values = (one.epoch, one.shard, one.sequence, one.rank, one.micro_batch, one.row)
        table.add_row(str(one.step), when, escape(one.source), *map(str, values))
    console.print(
        table, "That is all up to the end of the run." if times.is_complete else "More are to come.", sep="\n"
    )
