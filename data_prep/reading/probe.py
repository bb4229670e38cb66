"""A look at a source's first records before hours are spent on reading it: whether there is any text."""

from collections.abc import Sequence
from itertools import islice

from data_prep.documents.document import BrokenRecord, Document
from data_prep.readers import read_file
from data_prep.readers.files import InputFile
from pipeline.config.prep.readers import FieldMapping, WebdatasetReader
from pipeline.config.prep.recipe import Source
from pipeline.errors import CorpusError

_FILES, _RECORDS = 16, 1000
"""Looked at if there is no text; where there is some, one record is enough."""


def spread(files: Sequence[InputFile], most: int) -> list[InputFile]:
    """At most so many of some files, from the first on, equally far from each other."""
    number = min(most, len(files))
    return [files[len(files) * place // number] for place in range(number)]


def require_text(source: Source, files: Sequence[InputFile]) -> None:
    """Raises CorpusError if the beginnings of a source's files hold only records without the text that is asked for.

    Not if all of its records may be bad, nor if they are too few to tell.
    """
    if source.max_rejected_share == 1 or not isinstance(source.reader, FieldMapping | WebdatasetReader):
        return
    without: list[BrokenRecord] = []
    for file in spread(files, _FILES):
        for record in islice(read_file(source, file), _RECORDS):
            if isinstance(record, Document):
                return
            without += [record] if record.reason == "no_text" else []
    number = sum(record.records for record in without)
    if number >= _RECORDS or (number and len(files) <= _FILES):
        raise CorpusError(
            f"source {source.name!r}: none of {number} records at the beginnings of its files has the text asked for;"
            f" record {without[0].position} of {without[0].origin}: {without[0].detail}; correct the reader's fields"
        )
