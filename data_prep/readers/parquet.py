"""One document per row of a parquet file; row groups are streamed and only the needed columns are read."""

import io
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from data_prep.readers.files import InputFile, match_files
from data_prep.readers.flaw import Flaw
from data_prep.readers.mapping import RecordMapper, told_names
from data_prep.readers.reading import FileReading, Records
from data_prep.readers.streams import hash_content, open_raw
from pipeline.config.prep.readers import ParquetReader

_BATCH_ROWS = 128
_BATCH_BYTES = 16 << 20
"""Rows decoded at a time hold about so much at most, as a row may be a whole book."""
_BUFFER_BYTES = 1 << 20
"""Read at a time of each column, so that a row group is never held whole."""


def find(reader: ParquetReader) -> list[InputFile]:
    """The reader's files."""
    return match_files(reader.paths, (".parquet",))


def read(reader: ParquetReader, reading: FileReading) -> Records:
    """The file's rows; the position is the row's number from 0, whatever is damaged before it. Without a column for the
    text all rows are one broken record.

    The hash is taken in a pass of its own, as columns are not read in the file's order.
    """
    document = RecordMapper(reading, reader.text_field, reader.metadata)
    with closing(open_raw(reading.file)) as file:
        for position, record in _records(file, [reader.text_field, *reader.metadata.values()], reading):
            yield document(position, record)
        reading.bytes = file.seek(0, io.SEEK_END)
    reading.content_hash = hash_content(reading.file)


def _records(file: Any, columns: list[str], reading: FileReading) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:  # files raise others: reading that fails is no damage
        yield 0, Flaw("damaged_archive", f"no parquet file: {error}", lost_bytes=file.seek(0, io.SEEK_END))
        return
    if names := _names_without(table, columns[0]):
        yield 0, Flaw("no_text", f"{columns[0]} is no column{told_names(names)}", records=table.metadata.num_rows)
        return
    start = position = 0
    reading.stored_bytes = lambda: reading.file.bytes * (position + 1) / table.metadata.num_rows
    for group in range(table.num_row_groups):
        for position, record in _group_records(table, group, start, columns):
            yield position, record
        start += table.metadata.row_group(group).num_rows


def _names_without(table: Any, text_field: str) -> list[str]:
    """Names of a table's columns if none can hold the text and there are rows; else none."""
    names: list[str] = table.schema_arrow.names
    wanted = {text_field, text_field.partition(".")[0]}
    return names if table.metadata.num_rows and wanted.isdisjoint(names) else []


def _group_records(table: Any, group: int, start: int, columns: list[str]) -> Iterator[tuple[int, Any]]:
    """A row group's records; where it is damaged, a Flaw in place of the rest."""
    import pyarrow as pa

    metadata = table.metadata.row_group(group)
    position, end = start, start + metadata.num_rows
    batches = table.iter_batches(_batch_rows(metadata, columns), row_groups=[group], columns=columns, use_threads=False)
    try:
        for batch in batches:
            for record in _rows(batch):
                yield position, record
                position += 1
    except (pa.ArrowException, OSError) as error:
        said = f"rows {position} to {end - 1} cannot be read: {error}"
        yield position, Flaw("damaged_row_group", said, records=end - position)


def _batch_rows(metadata: Any, columns: list[str]) -> int:
    """How many rows of a row group to decode at a time."""
    tops = {name.partition(".")[0] for name in columns}
    chunks = (metadata.column(number) for number in range(metadata.num_columns))
    size: int = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.partition(".")[0] in tops)
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * int(metadata.num_rows) // max(size, 1)))


def _rows(batch: Any) -> list[Any]:
    """The rows of a batch; a Flaw for one with a value that is none of Python's, such as a date after the year 9999."""
    try:
        rows: list[Any] = batch.to_pylist()
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            return [Flaw("bad_encoding" if isinstance(error, UnicodeDecodeError) else "bad_value", str(error))]
        return [row for number in range(batch.num_rows) for row in _rows(batch.slice(number, 1))]
    return rows
