"""What there is to read and how it is divided into tasks: never by the number of workers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import xxhash

from data_prep.documents.document import HALF_BITS
from data_prep.documents.split import SplitShares
from data_prep.filters import filter_inputs
from data_prep.filters.base import HeldOutSet
from data_prep.readers import find_files
from data_prep.readers.files import InputFile
from data_prep.reading.inputs import checksum
from data_prep.reading.task import ReadTask
from pipeline.config.prep.filters import Filter
from pipeline.config.prep.readers import Reader
from pipeline.config.prep.recipe import PrepConfig, Source
from pipeline.errors import ConfigError
from pipeline.runtime.seeds import derive_seed

TASK_BYTES = 16 * 2**20
"""About how much text one reading task takes; twice, four times … as much where that would make too many tasks."""
MAX_TASKS = 8192
"""About so many at most: every shard has to look into what each reading task of its source left."""


@dataclass(frozen=True)
class SourcePlan:
    """One source's inputs."""

    source: Source
    """Its config."""
    files: tuple[InputFile, ...]
    """Its inputs, sorted by origin."""
    held_out: HeldOutSet | None = None
    """What its documents are kept apart from, if it is appended."""

    @property
    def bytes(self) -> int:
        """Size of the inputs where they lie."""
        return sum(file.bytes for file in self.files)

    @property
    def text_bytes(self) -> int:
        """About how much text they hold."""
        return sum(file.text_bytes for file in self.files)


def plan_sources(config: PrepConfig) -> list[SourcePlan]:
    """The inputs of each source. Raises ConfigError, naming the source, if its reader finds no file."""
    return [_plan(number, source) for number, source in enumerate(config.sources)]


def _plan(number: int, source: Source) -> SourcePlan:
    try:
        return SourcePlan(source, tuple(find_files(source.reader)))
    except ConfigError as error:
        raise ConfigError(f"sources.{number}.reader.{error}") from error


def read_tasks(config: PrepConfig, plan: SourcePlan) -> list[ReadTask]:
    """The tasks that read a source."""
    filters = filters_of(config, plan.source)
    shared: dict[str, Any] = {
        "source": Source(name=plan.source.name, reader=_without_paths(plan.source.reader)),
        "cleaning": config.cleaning,
        "filters": filters,
        "filter_inputs": checksum(filter_inputs(filters)),
        "seed": derive_seed(config.seed, "content"),
        "shares": split_shares(config, plan.source),
        "minhash": config.dedup.minhash,
        "write_dropped": config.write_dropped,
        "held_out": plan.held_out,
    }
    return [ReadTask(files=files, **shared) for files in group_files(plan.files)]


def split_shares(config: PrepConfig, source: Source) -> SplitShares:
    """Which part of a source's documents is held out."""
    if source.split is None:
        return SplitShares(config.validation_share, config.test_share)
    return SplitShares(float(source.split == "validation"), float(source.split == "test"))


def filters_of(config: PrepConfig, source: Source) -> tuple[Filter, ...]:
    """The filters of a source: its own, or the common ones."""
    return config.filters if source.filters is None else source.filters


def _without_paths(reader: Reader) -> Reader:
    """What reading a file needs to know: another path in the config leaves the tasks of the other files as they are."""
    return reader.model_copy(update={"paths": ()}) if "paths" in type(reader).model_fields else reader


def group_files(files: Sequence[InputFile]) -> Iterator[tuple[InputFile, ...]]:
    """Files in groups to be read at a time, each of about as much text; one that holds more ends its group.

    Whether a file ends its group is decided by its own name and size: one that comes or goes changes the group that it
    is in, and joins or cuts at most two.
    """
    limit = _task_bytes(sum(file.text_bytes for file in files))
    group: list[InputFile] = []
    for file in files:
        group.append(file)
        # so likely as it is large: on average a group holds `limit`
        if xxhash.xxh3_64_intdigest(file.origin.encode()) * limit < file.text_bytes << HALF_BITS:
            yield tuple(group)
            group = []
    if group:
        yield tuple(group)


def _task_bytes(text_bytes: int) -> int:
    size = TASK_BYTES
    while text_bytes > size * MAX_TASKS:
        size *= 2
    return size
