"""One document per row of a table with a header line."""

import csv
from collections.abc import Iterable, Iterator

from data_prep.readers.files import InputFile, match_files
from data_prep.readers.flaw import Flaw
from data_prep.readers.lines import MAX_RECORD_BYTES, read_lines
from data_prep.readers.mapping import RecordMapper
from data_prep.readers.reading import FileReading, Records
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
        header = next(rows, [])
        if isinstance(header, Flaw):
            yield reading.broken(0, Flaw(header.reason, f"{header.detail}; without a header no row is read"))
            return
        for position, row in enumerate(rows):
            yield document(position, row if isinstance(row, Flaw) else _record(header, row))


def _record(header: list[str], row: list[str]) -> dict[str, str] | Flaw:
    if len(row) != len(header):
        return Flaw("wrong_columns", f"{len(row)} columns where the header has {len(header)}")
    try:
        "".join(row).encode("utf-8")
    except UnicodeEncodeError:  # undecodable bytes came through as surrogates
        return Flaw("bad_encoding", "bytes that are not UTF-8")
    return dict(zip(header, row, strict=True))


def _rows(lines: Iterable[bytes | Flaw], delimiter: str) -> Iterator[list[str] | Flaw]:
    """The rows; a Flaw in place of one that cannot be told. Empty lines are no rows."""
    csv.field_size_limit(MAX_RECORD_BYTES)  # the module's own limit is 128 KiB and the whole process's
    rows = csv.reader(_Decoded(lines), delimiter=delimiter, strict=True)
    while True:
        try:
            row = next(rows, None)
            if row is None:
                return
            if row:
                yield row
        except Flaw as flaw:
            yield flaw
        except csv.Error as error:
            yield Flaw("bad_csv", f"line {rows.line_num}: {error}")


class _Decoded:
    """Lines as strings; raises flaws, and can be asked for the next line then, unlike a generator."""

    def __init__(self, lines: Iterable[bytes | Flaw]) -> None:
        self._lines = iter(lines)
        self._encoding = "utf-8-sig"

    def __iter__(self) -> "_Decoded":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if isinstance(line, Flaw):
            raise line
        encoding, self._encoding = self._encoding, "utf-8"
        return line.decode(encoding, errors="surrogateescape")
