"""One document per line of JSON, or per value of a file that is one JSON array or object."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from data_prep.readers.files import InputFile, match_files
from data_prep.readers.flaw import Flaw
from data_prep.readers.json_values import begins_with_value, parse_line, read_values
from data_prep.readers.lines import read_lines
from data_prep.readers.mapping import RecordMapper
from data_prep.readers.reading import FileReading, Records
from data_prep.readers.streams import peek
from pipeline.config.prep.readers import JsonlReader

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def find(reader: JsonlReader) -> list[InputFile]:
    """The reader's files."""
    return match_files(reader.paths, (".jsonl", ".json"))


def read(reader: JsonlReader, reading: FileReading) -> Records:
    """The file's records. Blank lines are passed over; the position is the line's number, or the value's, from 0."""
    document = RecordMapper(reading, reader.text_field, reader.metadata)
    with reading.open() as stream:
        start, flaws = peek(stream)
        if _is_one_value(reading.file.path, start):
            values: Iterator[tuple[int, Any]] = enumerate(read_values(stream))
        else:
            values = _line_values(chain(flaws, read_lines(stream)))
        for position, value in values:
            yield document(position, value)


def _line_values(lines: Iterable[bytes | Flaw]) -> Iterator[tuple[int, Any]]:
    for position, line in enumerate(lines):
        if isinstance(line, Flaw):
            yield position, line
        elif not line.isspace():
            yield position, parse_line(line)


def _is_one_value(name: str, start: bytes) -> bool:
    """Whether a file is an array, or an object over several lines, and not a record per line.

    A first line that is no value may be one that is cut, so the lines behind it have a say: where one of them is an
    object, and the beginning is none over several lines, it is a record per line.
    """
    start = start.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if ".jsonl" in name or not start.startswith((b"[", b"{")):
        return False
    first, *others = start.split(b"\n")
    if start.startswith(b"["):
        return True
    if not others or first.rstrip().endswith(b"}"):
        return False
    return begins_with_value(start) or not any(_is_object(line) for line in others)


def _is_object(line: bytes) -> bool:
    return line.startswith(b"{") and isinstance(parse_line(line), dict)
