"""`tarmac prep --dry-run`: what would be done, how much it would become and how long it would take, from a sample."""

import time
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from data_prep.documents.document import Document
from data_prep.filters import build_filters
from data_prep.filters.base import Dropped
from data_prep.plan import SourcePlan, filters_of, plan_sources, read_tasks
from data_prep.readers import read_file
from pipeline.config.prep.recipe import PrepConfig
from pipeline.config.prep.tokenizer import GivenTokenizer
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.load import load_tokenizer

_SAMPLED_FILES = 4
_SAMPLED_BYTES = 1_000_000
_BYTES_PER_TOKEN = 4.0
"""Guess where the tokenizer is still to be trained."""
_BYTES_ON_DISK_PER_TOKEN = {"uint16": 2.2, "uint32": 4.2}
_WORK_SHARE = 0.5
"""Texts between the phases, compressed, per byte of text kept."""
_ENCODING_BYTES_PER_SECOND = 20e6
_COLUMNS = ("source", "files", "input MB", "tasks", "text MB", "kept", "tokens", "shards", "disk MB", "core hours")


@dataclass(frozen=True)
class Estimate:
    """What is expected of one source."""

    text_bytes: float
    """Text read."""
    kept_share: float
    """Part of it that passes the filters; deduplication is not counted."""
    tokens: float
    """Tokens."""
    disk_bytes: float
    """Shards, and texts between the phases."""
    core_seconds: float
    """Reading, filtering and encoding on one core."""


def print_plan(config: PrepConfig, console: Console) -> None:
    """Print a row for each source."""
    tokenizer = load_tokenizer(config.tokenizer.path) if isinstance(config.tokenizer, GivenTokenizer) else None
    table = Table(title="plan", title_justify="left", box=SIMPLE, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "source" else "right")
    for plan in plan_sources(config):
        table.add_row(*_row(config, plan, estimate(config, plan, tokenizer)))
    console.print(table)
    basis = "the given tokenizer" if tokenizer else f"a guess of {_BYTES_PER_TOKEN} bytes per token"
    console.print(f"from a sample of each source, and {basis}; deduplication is not counted", highlight=False)


def _row(config: PrepConfig, plan: SourcePlan, found: Estimate) -> list[str]:
    return [
        plan.source.name,
        f"{len(plan.files):,}",
        f"{plan.bytes / 1e6:,.1f}",
        f"{len(read_tasks(config, plan)):,}",
        f"{found.text_bytes / 1e6:,.1f}",
        f"{found.kept_share:.0%}",
        f"{found.tokens:,.0f}",
        f"{max(1, round(found.tokens / config.shards.shard_tokens)):,}",
        f"{found.disk_bytes / 1e6:,.1f}",
        f"{found.core_seconds / 3600:,.2f}",
    ]


def estimate(config: PrepConfig, plan: SourcePlan, tokenizer: Tokenizer | None) -> Estimate:
    """Read and filter the beginnings of a few files of a source, and scale up."""
    start = time.perf_counter()
    read, kept = _sample(config, plan)
    seconds = time.perf_counter() - start
    read_bytes = sum(len(text.encode("utf-8", "replace")) for text in read) or 1
    kept_bytes = sum(len(text.encode("utf-8", "replace")) for text in kept)
    tokens = sum(len(tokenizer.encode(text)) + 1 for text in kept) if tokenizer else kept_bytes / _BYTES_PER_TOKEN
    scale = plan.text_bytes / read_bytes
    vocab_size = tokenizer.vocab_size if tokenizer else getattr(config.tokenizer, "vocab_size", 0)
    on_disk = _BYTES_ON_DISK_PER_TOKEN["uint16" if vocab_size <= 2**16 else "uint32"]
    return Estimate(
        text_bytes=plan.text_bytes,
        kept_share=kept_bytes / read_bytes,
        tokens=tokens * scale,
        disk_bytes=(tokens * on_disk + kept_bytes * _WORK_SHARE) * scale,
        core_seconds=(seconds + kept_bytes / _ENCODING_BYTES_PER_SECOND) * scale,
    )


def _sample(config: PrepConfig, plan: SourcePlan) -> tuple[list[str], list[str]]:
    """Texts as read, and those that pass the filters."""
    filters = build_filters(config.cleaning, filters_of(config, plan.source))
    read, kept = [], []
    step = max(1, len(plan.files) // _SAMPLED_FILES)
    for file in plan.files[::step][:_SAMPLED_FILES]:
        size = 0
        for record in read_file(plan.source, file):
            if isinstance(record, Document):
                read.append(record.text)
                size += len(record.text)
                text: str | Dropped = record.text
                metadata = dict(record.metadata)
                for _, filter_ in filters:
                    text = text if isinstance(text, Dropped) else filter_(text, metadata)
                kept += [] if isinstance(text, Dropped) else [text]
            if size > _SAMPLED_BYTES:
                break
    return read, kept
