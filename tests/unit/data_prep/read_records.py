"""Reading all of a reader's inputs at once."""

from collections import Counter
from pathlib import Path
from typing import Any

import xxhash
from pydantic import TypeAdapter

from data_prep.documents.document import BrokenRecord, Document
from data_prep.readers import FileReading, find_files, read_file
from pipeline.config.prep.readers import Reader
from pipeline.config.prep.recipe import Source

MIB = 1 << 20


def make_reader(type_: str, *paths: Path | str, **settings: Any) -> Reader:
    """A reader of some paths."""
    return TypeAdapter(Reader).validate_python({"type": type_, "paths": tuple(map(str, paths)), **settings})


def open_all(reader: Reader) -> list[FileReading]:
    """A reading of each input."""
    source = Source(name="here", reader=reader)
    return [read_file(source, file) for file in find_files(reader)]


def read_all(reader: Reader) -> list[Document | BrokenRecord]:
    """All that its inputs yield; checks the content hash where there are files."""
    found = []
    for reading in open_all(reader):
        found += list(reading)
        if Path(reading.file.path).is_file():
            assert reading.content_hash == xxhash.xxh3_128_hexdigest(Path(reading.file.path).read_bytes())
    return found


def texts(found: list[Document | BrokenRecord]) -> list[str]:
    """The documents' texts, in order."""
    return [record.text for record in found if isinstance(record, Document)]


def flaws(found: list[Document | BrokenRecord]) -> list[tuple[int, str]]:
    """Position and reason of the broken records, in order."""
    return [(record.position, record.reason) for record in found if isinstance(record, BrokenRecord)]


def figures(reading: FileReading) -> tuple[int, dict[str, int], Counter[str]]:
    """How many documents, skipped records by reason, and broken records by reason."""
    found = list(reading)
    return len(texts(found)), dict(reading.skipped), Counter(reason for _, reason in flaws(found))
