"""`tarmac prep --dry-run`: what would be done, how much it would become and how long it would take, from a sample."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from data_prep.documents.document import Document
from data_prep.filters import build_filters
from data_prep.filters.base import Dropped, Filter
from data_prep.plan import SourcePlan, filters_of, plan_sources, read_tasks
from data_prep.readers import InputFile, read_file
from pipeline.config.prep.recipe import PrepConfig
from pipeline.config.prep.tokenizer import GivenTokenizer
from pipeline.tokenizer.load import load_tokenizer

_SAMPLED_FILES = 16
_SAMPLED_BYTES = 2 << 20
"""Stored bytes of a file that are read; that tells how much text is in them."""
_FILTERED_CHARACTERS = 500_000
"""Of each file, so much text is filtered and counted in tokens."""
_BYTES_PER_TOKEN, _BYTES_PER_TOKEN_AND_DOUBLING = 4.2, 0.25
"""Of English with 32,768 pieces, and how much more with twice as many."""
_BYTES_ON_DISK_PER_TOKEN = {"uint16": 2.2, "uint32": 4.2}
_WORK_SHARE = 0.5
"""Texts between the phases, compressed, per byte of text kept."""
_ENCODING_BYTES_PER_SECOND = 20e6
Count = Callable[[str], float]
"""How many tokens a text has."""
_COLUMNS = ("source", "files", "input MB", "tasks", "text MB", "kept", "tokens", "shards", "disk MB", "core hours")


@dataclass(frozen=True)
class Amounts:
    """What is in some files, or expected in them."""

    text_bytes: float = 0
    """Text read."""
    kept_bytes: float = 0
    """Text that passes the filters; deduplication is not counted."""
    tokens: float = 0
    """Tokens of that."""
    core_seconds: float = 0
    """Reading and filtering on one core."""

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def __mul__(self, factor: float) -> "Amounts":
        return Amounts(*(getattr(self, one.name) * factor for one in fields(self)))


@dataclass(frozen=True)
class TokenCounter:
    """How many tokens texts have, or might have."""

    count: Count
    """Of one text."""
    vocab_size: int
    """Pieces of the tokenizer."""
    basis: str
    """What it rests on."""


def token_counter(config: PrepConfig) -> TokenCounter:
    """By the given tokenizer, or by a guess. Raises TokenizerError if the given one cannot be loaded."""
    if isinstance(config.tokenizer, GivenTokenizer):
        tokenizer = load_tokenizer(config.tokenizer.path)
        return TokenCounter(lambda text: len(tokenizer.encode(text)) + 1, tokenizer.vocab_size, "the given tokenizer")
    guess = guessed_bytes_per_token(config.tokenizer.vocab_size)
    basis = f"a guess of {guess:.1f} bytes per token"
    return TokenCounter(lambda text: _size(text) / guess, config.tokenizer.vocab_size, basis)


def print_plan(config: PrepConfig, console: Console) -> None:
    """Print a row for each source."""
    counter = token_counter(config)
    table = Table(title="plan", title_justify="left", box=SIMPLE, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "source" else "right")
    for plan in plan_sources(config):
        table.add_row(*_row(config, plan, estimate(config, plan, counter.count), counter.vocab_size))
    console.print(table)
    console.print(f"from a sample of each source, and {counter.basis}; deduplication is not counted", highlight=False)


def _row(config: PrepConfig, plan: SourcePlan, found: Amounts, vocab_size: int) -> list[str]:
    on_disk = found.tokens * _BYTES_ON_DISK_PER_TOKEN["uint16" if vocab_size <= 2**16 else "uint32"]
    seconds = found.core_seconds + found.kept_bytes / _ENCODING_BYTES_PER_SECOND
    return [
        plan.source.name,
        f"{len(plan.files):,}",
        f"{plan.bytes / 1e6:,.1f}",
        f"{len(read_tasks(config, plan)):,}",
        f"{found.text_bytes / 1e6:,.1f}",
        f"{found.kept_bytes / (found.text_bytes or 1):.0%}",
        f"{found.tokens:,.0f}",
        f"{max(1, round(found.tokens / config.shards.shard_tokens)):,}",
        f"{(on_disk + found.kept_bytes * _WORK_SHARE) / 1e6:,.1f}",
        f"{seconds / 3600:,.2f}",
    ]


def guessed_bytes_per_token(vocab_size: int) -> float:
    """Bytes of English text to a token of a tokenizer that is still to be trained."""
    return max(1.0, _BYTES_PER_TOKEN + _BYTES_PER_TOKEN_AND_DOUBLING * math.log2(max(vocab_size, 1) / 32_768))


def estimate(config: PrepConfig, plan: SourcePlan, count: Count) -> Amounts:
    """What is expected of a source: some of its files are read in part, and scaled up by the bytes that they take."""
    number = min(_SAMPLED_FILES, len(plan.files))
    files = [plan.files[len(plan.files) * place // number] for place in range(number)]
    filters = [filter_ for _, filter_ in build_filters(config.cleaning, filters_of(config, plan.source))]
    found = sum((_in_file(plan, file, filters, count) for file in files), Amounts())
    sampled_bytes = sum(file.bytes for file in files)
    return found * (plan.bytes / sampled_bytes if sampled_bytes else len(plan.files) / max(1, number))


def _in_file(plan: SourcePlan, file: InputFile, filters: Sequence[Filter], count: Count) -> Amounts:
    """What is expected in one file, from its beginning."""
    start = time.perf_counter()
    texts, text_bytes, share = _read(plan, file)
    read_seconds, start = time.perf_counter() - start, time.perf_counter()
    kept = [left for text, metadata in texts if not isinstance(left := _filtered(text, metadata, filters), Dropped)]
    filter_seconds = time.perf_counter() - start
    filtered = Amounts(0, sum(map(_size, kept)), sum(map(count, kept)), filter_seconds)
    filtered_share = sum(_size(text) for text, _ in texts) / (text_bytes or 1) or 1
    return (Amounts(text_bytes, 0, 0, read_seconds) + filtered * (1 / filtered_share)) * (1 / share)


def _read(plan: SourcePlan, file: InputFile) -> tuple[list[tuple[str, dict[str, str]]], int, float]:
    """The first texts of a file with their metadata; bytes of text that were read; in which share of the file."""
    reading = read_file(plan.source, file)
    texts: list[tuple[str, dict[str, str]]] = []
    text_bytes = characters = 0
    behind = stored = 0.0
    for record in reading:
        if reading.stored_bytes() > stored:  # only now all that was read before is used up
            behind, stored, text_behind = stored, reading.stored_bytes(), text_bytes
            if behind >= _SAMPLED_BYTES and text_behind:
                return texts, text_behind, min(1.0, behind / file.bytes)
        if isinstance(record, Document):
            text_bytes += _size(record.text)
            if characters < _FILTERED_CHARACTERS:
                texts.append((record.text, dict(record.metadata)))
                characters += len(record.text)
        if not stored and text_bytes > _SAMPLED_BYTES:  # it is not known how much of the file that is
            return texts, text_bytes, min(1.0, text_bytes / (file.text_bytes or text_bytes))
    return texts, text_bytes, 1.0


def _filtered(text: str, metadata: dict[str, str], filters: Sequence[Filter]) -> str | Dropped:
    left: str | Dropped = text
    for filter_ in filters:
        if isinstance(left, Dropped):
            return left
        left = filter_(left, metadata)
    return left


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
