"""What there is to do: a pure function of the inputs and the config, never of the number of workers."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data_prep.readers import find_files
from data_prep.readers.files import InputFile
from pipeline.config.prep import PrepConfig, Source
from pipeline.errors import ConfigError

TASK_BYTES = 4 * 2**20
"""About how much text one reading task takes, or more where that would make too many tasks of a source."""
MAX_TASKS = 4096
"""Every bucket has to look into what each reading task of its source left."""
BYTES_PER_TOKEN = 3
"""Guess before there is a tokenizer. Only the number of shards depends on it."""


@dataclass(frozen=True)
class SourcePlan:
    """One source's inputs and how its work is divided."""

    number: int
    """Place in the config; of equal documents the one of the lowest source stays."""
    source: Source
    """Its config."""
    files: tuple[InputFile, ...]
    """Its inputs."""
    num_buckets: int
    """Into how many parts its documents are divided; each becomes one shard."""
    num_validation_shards: int
    """How many shards its held-out documents make."""

    @property
    def bytes(self) -> int:
        """Size of the inputs on disk."""
        return sum(file.bytes for file in self.files)

    @property
    def tasks(self) -> list[tuple[InputFile, ...]]:
        """The inputs in groups to be read at a time."""
        size = sum(file.text_bytes for file in self.files)
        return list(_groups(self.files, max(TASK_BYTES, size // MAX_TASKS)))

    @property
    def inputs_sha256(self) -> str:
        """Checksum over names and sizes of the inputs."""
        text = "\n".join(f"{file.origin}\x1f{file.bytes}" for file in self.files)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()


def plan_sources(config: PrepConfig) -> list[SourcePlan]:
    """A plan for each source. Raises ConfigError, naming the source, if its reader finds no file."""
    return [_plan(number, source, config) for number, source in enumerate(config.sources)]


def _plan(number: int, source: Source, config: PrepConfig) -> SourcePlan:
    try:
        files = find_files(source.reader)
    except ConfigError as error:
        raise ConfigError(f"sources.{number}.reader.{error}") from error
    tokens = sum(file.text_bytes for file in files) / BYTES_PER_TOKEN
    shards = tokens / config.shards.shard_tokens
    return SourcePlan(
        number,
        source,
        tuple(files),
        num_buckets=max(1, round(shards)),
        num_validation_shards=max(1, round(shards * config.validation_share)),
    )


def _groups(files: Sequence[InputFile], task_bytes: int) -> Iterator[tuple[InputFile, ...]]:
    group: list[InputFile] = []
    size = 0
    for file in files:
        group.append(file)
        size += file.text_bytes
        if size >= task_bytes:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)
