"""`tarmac prep --dry-run`: what would be done, how much it would become and how long it would take, from a sample."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

from rich.console import Console

from data_prep.documents.document import Document
from data_prep.filters import build_filters
from data_prep.filters.base import Filter, apply_all
from data_prep.plan import SourcePlan, filters_of, plan_sources, read_tasks
from data_prep.readers import InputFile, read_file
from data_prep.reading.probe import require_text, spread
from data_prep.reading.sample import Sample
from pipeline.config.prep.recipe import PrepConfig
from pipeline.config.prep.tokenizer import GivenTokenizer
from pipeline.errors import CorpusError
from pipeline.runtime.columns import print_columns
from pipeline.tokenizer.load import load_tokenizer

_SAMPLED_FILES = 16
_SAMPLED_BYTES = 2 << 20
"""Stored bytes of a file that are read; that tells how much text is in them."""
_BYTES_PER_TOKEN, _BYTES_PER_TOKEN_AND_DOUBLING = 4.2, 0.25
"""Of English with 32,768 pieces, and how much more with twice as many."""
_BYTES_ON_DISK_PER_TOKEN = {"uint16": 2.2, "uint32": 4.2}
_WORK_SHARE = 0.5
"""Texts between the phases, compressed, per byte of text kept."""
_ENCODING_BYTES_PER_SECOND = 20e6
Count = Callable[[str], float]
"""How many tokens a text has."""
Filters = Sequence[tuple[str, Filter]]
"""Names and filters."""
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
    """Print a row for each source, and what would stop the stage."""
    counter = token_counter(config)
    rows, warnings = [], list[str]()
    for plan in plan_sources(config):
        lost = Counter[str]()
        found = estimate(config, plan, counter.count, lost)
        rows.append(_row(config, plan, found, counter.vocab_size))
        warnings += _warnings(plan, found, lost)
    print_columns(console, "plan", _COLUMNS, rows)
    for line in (f"from a sample of each source, and {counter.basis}; deduplication is not counted", *warnings):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _warnings(plan: SourcePlan, found: Amounts, lost: Counter[str]) -> list[str]:
    """Why nothing is kept of a source's sample."""
    try:
        require_text(plan.source, plan.files)
    except CorpusError as error:
        return [f"warning: {error}"]
    if found.kept_bytes:
        return []
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in lost.most_common()) or "there is none"
    return [f"warning: source {plan.source.name!r}: no document of its sample is kept ({reasons})"]


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


def estimate(config: PrepConfig, plan: SourcePlan, count: Count, lost: Counter[str] | None = None) -> Amounts:
    """What is expected of a source: some of its files are read in part, and scaled up by the bytes that they take.

    Args:
        config: The config.
        plan: The source's inputs.
        count: How many tokens a text has.
        lost: Takes in why records and documents of the sample are not kept.
    """
    files = spread(plan.files, _SAMPLED_FILES)
    filters = build_filters(config.cleaning, filters_of(config, plan.source))
    lost = Counter[str]() if lost is None else lost
    found = sum((_in_file(plan, file, filters, count, lost) for file in files), Amounts())
    sampled_bytes = sum(file.bytes for file in files)
    return found * (plan.bytes / sampled_bytes if sampled_bytes else len(plan.files) / max(1, len(files)))


def _in_file(plan: SourcePlan, file: InputFile, filters: Filters, count: Count, lost: Counter[str]) -> Amounts:
    """What is expected in one file, from its beginning."""
    start = time.perf_counter()
    sample, text_bytes, share = _read(plan, file, lost)
    read_seconds, start = time.perf_counter() - start, time.perf_counter()
    kept = list(_kept(sample.texts, filters, lost))
    filter_seconds = time.perf_counter() - start
    filtered = Amounts(0, sum(map(_size, kept)), sum(map(count, kept)), filter_seconds)
    filtered_share = sum(_size(text) for text, _ in sample.texts) / (text_bytes or 1) or 1
    return (Amounts(text_bytes, 0, 0, read_seconds) + filtered * (1 / filtered_share)) * (1 / share)


def _read(plan: SourcePlan, file: InputFile, lost: Counter[str]) -> tuple[Sample, int, float]:
    """Texts of a file's beginning with their metadata; bytes of text that were read; in which share of the file."""
    reading, sample = read_file(plan.source, file), Sample()
    text_bytes = 0
    behind = stored = 0.0
    for record in reading:
        if reading.stored_bytes() > stored:  # only now all that was read before is used up
            behind, stored, text_behind = stored, reading.stored_bytes(), text_bytes
            if behind >= _SAMPLED_BYTES and text_behind:
                return sample, text_behind, min(1.0, behind / file.bytes)
        if isinstance(record, Document):
            text_bytes += _size(record.text)
            sample.add(record)
        else:
            lost[record.reason] += record.records
        if not stored and text_bytes > _SAMPLED_BYTES:  # it is not known how much of the file that is
            return sample, text_bytes, min(1.0, text_bytes / (file.text_bytes or text_bytes))
    return sample, text_bytes, 1.0


def _kept(texts: Sequence[tuple[str, dict[str, str]]], filters: Filters, lost: Counter[str]) -> Iterator[str]:
    """What filters leave of some texts."""
    for text, metadata in texts:
        left, reason = apply_all(filters, text, metadata)
        if reason is None:
            yield left
        else:
            lost[reason] += 1


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
