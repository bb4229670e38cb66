"""One document per line of JSON, plain or compressed."""

import json
from collections.abc import Iterator
from dataclasses import replace

from data_prep.document import BrokenRecord, Document
from data_prep.readers.files import InputFile, match_files
from data_prep.readers.streams import open_input
from pipeline.config.prep import JsonlReader

BROKEN = BrokenRecord("broken_record")
WITHOUT_TEXT = BrokenRecord("no_text")
_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz")


def find(reader: JsonlReader) -> list[InputFile]:
    """The reader's files."""
    return match_files(reader.paths, _SUFFIXES)


def read(reader: JsonlReader, source: str, file: InputFile) -> Iterator[Document | BrokenRecord]:
    """The file's lines as documents; blank lines are passed over, the position is the line's number from 0."""
    with open_input(file.path) as stream:
        for position, line in enumerate(stream):
            if line.strip():
                yield _document(line, reader.text_field, Document(source, file.origin, position, ""))


def _document(line: bytes, field: str, place: Document) -> Document | BrokenRecord:
    try:
        record = json.loads(line.decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError):
        return BROKEN
    text = record.get(field) if isinstance(record, dict) else None
    return replace(place, text=text) if isinstance(text, str) else WITHOUT_TEXT
