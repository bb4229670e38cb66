"""One document per row of a dataset of the `datasets` library, streamed."""

import gzip
import os
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import xxhash

from data_prep.readers.files import InputFile
from data_prep.readers.flaw import Flaw
from data_prep.readers.mapping import RecordMapper
from data_prep.readers.reading import FileReading, Records
from data_prep.readers.remote import network_errors
from pipeline.config.prep.readers import HuggingFaceReader
from pipeline.errors import ConfigError, CorpusError

SCHEME = "hf-dataset:"
"""Paths that begin so are parts of a dataset and no files."""


def find(reader: HuggingFaceReader) -> list[InputFile]:
    """The parts of the dataset, as if they were files; the version is that of the whole, the size 0 if not known.

    Raises:
        ConfigError: There is no such dataset, configuration or split.
        CorpusError: The hub cannot be reached.
    """
    builder, count = _builder(reader), reader.num_shards
    _stream(reader, builder)
    version = xxhash.xxh3_128_hexdigest(f"{builder.hash}\x1f{builder.config_id}".encode())
    size = _bytes(reader, builder) // count
    name = os.path.basename(reader.dataset.rstrip("/"))
    return [
        InputFile(f"{SCHEME}{reader.dataset}#{number}/{count}", f"{name}#{number:05d}-of-{count:05d}", size, version)
        for number in range(count)
    ]


def read(reader: HuggingFaceReader, reading: FileReading) -> Records:
    """The rows of a part; the position is the row's number in it from 0.

    Raises CorpusError if the hub cannot be reached.
    """
    document = RecordMapper(reading, reader.text_field, reader.metadata)
    number = int(reading.file.path.rpartition("#")[2].partition("/")[0])
    dataset = _wanted_columns(reader, _stream(reader, _builder(reader)))
    rows = _part(dataset, number, reader.num_shards)
    for position, row in enumerate(_rows(rows, reader.dataset, reading.bytes)):
        yield document(position, row)


def _builder(reader: HuggingFaceReader) -> Any:
    import datasets

    files = list(reader.data_files) or None
    try:
        return datasets.load_dataset_builder(reader.dataset, reader.name, data_files=files, revision=reader.revision)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"dataset ({reader.dataset!r}) cannot be opened: {_one_line(error)}") from error
    except OSError as error:
        raise _unreachable(reader.dataset, error) from error


def _stream(reader: HuggingFaceReader, builder: Any) -> Any:
    try:
        return builder.as_streaming_dataset(split=reader.split)
    except ValueError as error:
        raise ConfigError(f"split ({reader.split!r}) cannot be read: {_one_line(error)}") from error


def _bytes(reader: HuggingFaceReader, builder: Any) -> int:
    """Size of the split: as its card says, or of its files where they are on this machine."""
    split = (builder.info.splits or {}).get(reader.split)
    if split and split.num_bytes:
        return int(split.num_bytes)
    files = (builder.config.data_files or {}).get(reader.split, [])
    return sum(os.path.getsize(file) for file in files if os.path.exists(file))


def _wanted_columns(reader: HuggingFaceReader, dataset: Any) -> Any:
    """The dataset without columns that nobody asked for, such as images, which would be decoded."""
    fields = (reader.text_field, *reader.metadata.values())
    wanted = {*fields, *(field.partition(".")[0] for field in fields)}
    columns = [name for name in dataset.column_names or () if name in wanted]
    return dataset.select_columns(columns) if columns else dataset


def _part(dataset: Any, number: int, count: int) -> Iterator[Any]:
    """One of `count` parts: some of the dataset's files where there are enough, else every `count`-th row."""
    if dataset.num_shards >= count:
        return iter(dataset.shard(count, number))
    return islice(dataset, number, None, count)


def _rows(rows: Iterator[Any], name: str, part_bytes: int) -> Iterator[Any]:
    """The rows; where they cannot be read on, a Flaw is the last one. Nobody knows how much of the part that is."""
    from datasets.exceptions import DatasetsError

    try:
        yield from rows
    except (ValueError, TypeError, EOFError, zlib.error, gzip.BadGzipFile, DatasetsError) as error:
        yield _damaged(error, part_bytes)
    except network_errors() as error:
        if type(error) is not OSError or error.errno is not None:
            raise _unreachable(name, error) from error
        yield _damaged(error, part_bytes)  # pyarrow's, of a file that it cannot make sense of


def _damaged(error: Exception, part_bytes: int) -> Flaw:
    said = f"{_one_line(error)}; the rest of the part is not read"
    return Flaw("damaged_dataset", said, lost_bytes=part_bytes)


def _unreachable(name: str, error: Exception) -> CorpusError:
    return CorpusError(
        f"dataset {name} cannot be reached: {_one_line(error)}; check the network, or give a local folder"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
