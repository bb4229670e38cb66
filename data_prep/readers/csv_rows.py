"""One document per row of a table with a header line."""

import csv
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from data_prep.readers.files import InputFile, match_files
from data_prep.readers.flaw import Flaw
from data_prep.readers.lines import MAX_RECORD_BYTES, read_lines
from data_prep.readers.mapping import RecordMapper
from data_prep.readers.reading import FileReading, Records
from data_prep.readers.streams import pass_over
from pipeline.config.prep.readers import CsvReader


def find(reader: CsvReader) -> list[InputFile]:
    """The reader's files."""
    return match_files(reader.paths, (".csv", ".tsv"))


def read(reader: CsvReader, reading: FileReading) -> Records:
    """The rows behind the header; the position is the row's number from 0. Files named .tsv are separated by tabs."""
    document = RecordMapper(reading, reader.text_field, reader.metadata)
    delimiter = "\t" if reader.delimiter == "," and ".tsv" in reading.file.path else reader.delimiter
    with reading.open() as stream:
        rows = _rows(read_lines(stream), delimiter)
        header = next(rows, _Row([], 0))
        if isinstance(header, Flaw):
            said = f"{header.detail}; without a header no row is read"
            pass_over(stream)
            yield reading.broken(0, Flaw(header.reason, said, lost_bytes=stream.tell()))
            return
        for position, row in enumerate(rows):
            yield document(position, row if isinstance(row, Flaw) else _record(header.fields, *row))


class _Row(NamedTuple):
    fields: list[str]
    swallowed_bytes: int
    """Its length if it goes over several lines, else 0: if it is bad, a stray quote may have swallowed other rows."""


def _record(header: list[str], row: list[str], swallowed_bytes: int) -> dict[str, str] | Flaw:
    if len(row) != len(header):
        said = f"{len(row)} columns where the header has {len(header)}"
        return Flaw("wrong_columns", said, lost_bytes=swallowed_bytes)
    try:
        "".join(row).encode("utf-8")
    except UnicodeEncodeError:  # undecodable bytes came through as surrogates
        return Flaw("bad_encoding", "bytes that are not UTF-8")
    return dict(zip(header, row, strict=True))


def _rows(lines: Iterable[bytes | Flaw], delimiter: str) -> Iterator[_Row | Flaw]:
    """The rows; a Flaw in place of one that cannot be told. Empty lines are no rows."""
    csv.field_size_limit(MAX_RECORD_BYTES)  # the module's own limit is 128 KiB and the whole process's
    decoded = _Decoded(lines)
    rows = csv.reader(decoded, delimiter=delimiter, strict=True)
    while True:
        decoded.sizes.clear()
        try:
            row = next(rows, None)
            if row is None:
                return
            if row:
                yield _Row(row, decoded.swallowed_bytes)
        except Flaw as flaw:
            yield Flaw(flaw.reason, flaw.detail, lost_bytes=flaw.lost_bytes + decoded.swallowed_bytes)
        except csv.Error as error:
            # even of one line: where lines end with CR alone, it holds many rows
            yield Flaw("bad_csv", f"line {rows.line_num}: {error}", lost_bytes=sum(decoded.sizes))


class _Decoded:
    """Lines as strings; raises flaws, and can be asked for the next line then, unlike a generator."""

    def __init__(self, lines: Iterable[bytes | Flaw]) -> None:
        self._lines = iter(lines)
        self._encoding = "utf-8-sig"
        self.sizes = list[int]()
        """Of the lines of the row that is being read."""

    @property
    def swallowed_bytes(self) -> int:
        """Length of a row of several lines."""
        return sum(self.sizes) if len(self.sizes) > 1 else 0

    def __iter__(self) -> "_Decoded":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if isinstance(line, Flaw):
            raise line
        self.sizes.append(len(line))
        encoding, self._encoding = self._encoding, "utf-8"
        return line.decode(encoding, errors="surrogateescape")
