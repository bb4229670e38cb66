"""Readers: from files to documents.

Each module has `find(reader)`, which lists the inputs, and `read(reader, reading)`, which yields one input's documents
and broken records.
"""

from functools import partial

from data_prep.readers import csv_rows, huggingface, jsonl, parquet, stdlib, text, warc, webdataset
from data_prep.readers.files import InputFile
from data_prep.readers.reading import FileReading
from data_prep.readers.streams import hash_content
from pipeline.config.prep.readers import Reader
from pipeline.config.prep.recipe import Source

__all__ = ["FileReading", "InputFile", "find_files", "hash_file", "module_of", "read_file"]

_MODULES = {
    "stdlib": stdlib,
    "text": text,
    "jsonl": jsonl,
    "csv": csv_rows,
    "parquet": parquet,
    "warc": warc,
    "webdataset": webdataset,
    "huggingface": huggingface,
}


def module_of(reader: Reader) -> str:
    """Name of the module that reads what a reader finds."""
    return _MODULES[reader.type].__name__


def find_files(reader: Reader) -> list[InputFile]:
    """A reader's inputs, sorted by origin, each once.

    Raises:
        ConfigError: A path matches nothing.
        CorpusError: A place cannot be listed.
        MissingDependencyError: An optional package is needed.
    """
    files: list[InputFile] = _MODULES[reader.type].find(reader)
    return files


def read_file(source: Source, file: InputFile) -> FileReading:
    """The documents and broken records of one input, read while they are iterated over."""
    return FileReading(source.name, file, partial(_MODULES[source.reader.type].read, source.reader))


def hash_file(file: InputFile) -> str | None:
    """The content hash that reading a file takes, without parsing it; None where there is no file to hash.

    Raises CorpusError if it cannot be read.
    """
    return None if file.path.startswith(huggingface.SCHEME) else hash_content(file)
