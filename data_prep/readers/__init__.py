"""Readers: from files to documents. Each has `find`, which lists its files, and `read`, which opens one of them."""

from collections.abc import Iterator

from data_prep.document import BrokenRecord, Document
from data_prep.readers import jsonl, stdlib, text
from data_prep.readers.files import InputFile
from pipeline.config.prep import JsonlReader, Reader, Source, StdlibReader, TextReader


def find_files(reader: Reader) -> list[InputFile]:
    """A reader's files, sorted by origin. Raises ConfigError if there is none."""
    match reader:
        case StdlibReader():
            return stdlib.find(reader)
        case TextReader():
            return text.find(reader)
        case JsonlReader():
            return jsonl.find(reader)


def read_file(source: Source, file: InputFile) -> Iterator[Document | BrokenRecord]:
    """The documents of one file. Raises CorpusError if it cannot be read."""
    if isinstance(source.reader, JsonlReader):
        return jsonl.read(source.reader, source.name, file)
    return text.read(source.name, file)
