"""Plain text: a document per file, or per paragraph."""

import io
from collections.abc import Iterator

from data_prep.readers.files import InputFile, match_files
from data_prep.readers.flaw import Flaw
from data_prep.readers.lines import MAX_RECORD_BYTES, decode_text, read_lines, too_long
from data_prep.readers.reading import FileReading, Records
from pipeline.config.prep.readers import TextReader


def find(reader: TextReader) -> list[InputFile]:
    """The reader's files."""
    return match_files(reader.paths, (".txt",))


def read(reader: TextReader, reading: FileReading) -> Records:
    """The file as one document, or its paragraphs, numbered from 0."""
    return whole_file(reading) if reader.document == "file" else _paragraphs(reading)


def whole_file(reading: FileReading) -> Records:
    """The file as one document; what lies behind damage is not taken for a part of it."""
    with reading.open() as stream:
        try:
            content = stream.read(MAX_RECORD_BYTES + 1)
            if len(content) > MAX_RECORD_BYTES:
                raise too_long("a file; read it by paragraphs (document: paragraph)")
            yield reading.document(0, decode_text(content))
        except Flaw as flaw:
            yield reading.broken(0, Flaw(flaw.reason, flaw.detail))  # one record, however much of it is lost


def _paragraphs(reading: FileReading) -> Records:
    with reading.open() as stream:
        for position, paragraph in enumerate(_stretches(stream)):
            if isinstance(paragraph, Flaw):
                yield reading.broken(position, paragraph)
            else:
                yield reading.document(position, decode_text(paragraph))


def _stretches(stream: io.BufferedReader) -> Iterator[bytes | Flaw]:
    """Lines between blank ones, together. A flaw ends a stretch as a blank line does."""
    lines, size = list[bytes](), 0
    for line in read_lines(stream):
        if isinstance(line, Flaw) or line.isspace():
            yield from _stretch(lines, size)
            lines, size = [], 0
            if isinstance(line, Flaw):
                yield line
        else:
            size += len(line)
            if size <= MAX_RECORD_BYTES:
                lines.append(line)
            else:
                lines.clear()
    yield from _stretch(lines, size)


def _stretch(lines: list[bytes], size: int) -> Iterator[bytes | Flaw]:
    if size > MAX_RECORD_BYTES:
        yield too_long("a paragraph")
    elif lines:
        yield b"".join(lines).rstrip(b"\r\n")
