"""From records to documents: which field is the text, which become metadata."""

import json
from collections.abc import Iterable, Mapping
from itertools import islice

from data_prep.documents.document import BrokenRecord, Document
from data_prep.readers.flaw import Flaw
from data_prep.readers.lines import MAX_RECORD_BYTES, too_long
from data_prep.readers.reading import FileReading

_SHOWN_NAMES, _NAME_CHARACTERS = 8, 40


class RecordMapper:
    """Makes documents of a file's records by names of fields, of which dotted ones reach into nested records."""

    def __init__(self, reading: FileReading, text_field: str, metadata: Mapping[str, str]) -> None:
        """Take the text from `text_field`, and metadata from fields by the mapping."""
        self._reading = reading
        self._text_field = text_field
        self._metadata = dict(metadata)

    def __call__(self, position: int, record: object) -> Document | BrokenRecord:
        """The document of a record; a Flaw in place of a record, or a record without text, is a broken one."""
        if isinstance(record, Flaw):
            return self._reading.broken(position, record)
        text = _pick(record, self._text_field)
        if not isinstance(text, str):
            return self._reading.broken(position, Flaw("no_text", f"{self._text_field} {_problem(text, record)}"))
        if len(text) > MAX_RECORD_BYTES:
            return self._reading.broken(position, too_long("a text"))
        return self._reading.document(position, text, self._picked(record) if self._metadata else None)

    def _picked(self, record: object) -> dict[str, str]:
        picked = ((name, _pick(record, field)) for name, field in self._metadata.items())
        return {name: _as_text(value) for name, value in picked if value is not None}


def _problem(text: object, record: object) -> str:
    """What is wrong with what should be a text."""
    if text is not None:
        return f"is {type(text).__name__}, not text"
    return f"is not there{told_names(record) if isinstance(record, dict) else ''}"


def told_names(names: Iterable[object]) -> str:
    """The fields that are there in place of a missing one, as the end of a sentence."""
    first = [str(name)[:_NAME_CHARACTERS] for name in islice(names, _SHOWN_NAMES + 1)]
    return f"; there are {', '.join([*first[:_SHOWN_NAMES], *('…' for _ in first[_SHOWN_NAMES:])])}" if first else ""


def _pick(record: object, field: str) -> object:
    """A field of a record, None if it has none; `a.b` is the field of that name, or else b of a."""
    if not isinstance(record, dict):
        return None
    if field in record:
        return record[field]
    outer, dot, inner = field.partition(".")
    return _pick(record.get(outer), inner) if dot else None


def _as_text(value: object) -> str:
    """A value as a string: strings and dates as they are, others as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
