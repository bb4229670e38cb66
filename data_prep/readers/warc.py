"""One document per page of a WARC, WET or ARC file."""

from importlib.util import find_spec

from data_prep.readers.archive import read_records
from data_prep.readers.files import InputFile, match_files
from data_prep.readers.flaw import Flaw
from data_prep.readers.pages import Skip, page_text
from data_prep.readers.reading import FileReading, Records
from pipeline.config.prep.readers import WarcReader
from pipeline.errors import MissingDependencyError


def find(reader: WarcReader) -> list[InputFile]:
    """The reader's files. Raises MissingDependencyError if the packages for web archives are not installed."""
    for package in ("fastwarc", "resiliparse"):
        if find_spec(package) is None:
            raise MissingDependencyError(
                f"the warc reader needs {package}; install it with: pip install 'tarmac[warc]'"
            )
    return match_files(reader.paths, (".warc", ".wet", ".arc"))


def read(reader: WarcReader, reading: FileReading) -> Records:
    """The file's pages; the position is the record's number from 0, counting all kinds of records."""
    with reading.open() as stream:
        for position, record in enumerate(read_records(stream, reader.max_page_bytes)):
            try:
                if isinstance(record, Flaw):
                    raise record
                text = page_text(record, reader.extraction, reader.max_page_bytes)
            except Skip as skip:
                reading.skipped[str(skip)] += 1
            except Flaw as flaw:
                yield reading.broken(position, flaw)
            else:
                named = {"url": record.url, "date": record.date}
                yield reading.document(position, text, {name: value for name, value in named.items() if value})
