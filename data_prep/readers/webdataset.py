"""One document per sample of webdataset tarballs: files next to each other whose names agree up to the first dot."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

from data_prep.readers.files import InputFile, match_files
from data_prep.readers.flaw import Flaw
from data_prep.readers.json_values import parse_line
from data_prep.readers.lines import decode_text
from data_prep.readers.mapping import RecordMapper
from data_prep.readers.reading import FileReading, Records
from data_prep.readers.tar import Member, read_members
from pipeline.config.prep.readers import WebdatasetReader


def find(reader: WebdatasetReader) -> list[InputFile]:
    """The reader's files."""
    return match_files(reader.paths, (".tar", ".tgz"))


def read(reader: WebdatasetReader, reading: FileReading) -> Records:
    """The samples; the position is the sample's number from 0. Files without an extension belong to none, and
    links may lead anywhere: both are skipped."""
    extension = reader.json_member or reader.text_member
    document = RecordMapper(reading, reader.text_field, reader.metadata)
    with reading.open() as stream:
        members = read_members(stream, lambda name: _split(name)[1] == extension)
        for position, content in enumerate(_samples(members, extension, reading)):
            if isinstance(content, Flaw):
                yield reading.broken(position, content)
            elif reader.json_member:
                yield document(position, parse_line(content))
            else:
                yield reading.document(position, decode_text(content))


def _samples(members: Iterable[Member | Flaw], extension: str, reading: FileReading) -> Iterator[bytes | Flaw]:
    """The wanted file of each sample, or a Flaw."""
    for key, group in groupby(_files(members, extension, reading), key=itemgetter(0)):
        wanted = [content for _, content in group if content is not None]
        yield from wanted or [key if isinstance(key, Flaw) else Flaw("no_text", f"{key} has no .{extension}")]


def _files(
    members: Iterable[Member | Flaw], extension: str, reading: FileReading
) -> Iterator[tuple[str | Flaw, bytes | Flaw | None]]:
    """Each file's key, and its content if it is the wanted one; a Flaw is a key of its own."""
    for member in members:
        if isinstance(member, Flaw):
            yield member, None
            continue
        key, ending = _split(member.name)
        if member.content is None:
            reading.skipped["link"] += 1
        elif key and ending:
            yield key, member.content if ending == extension else None
        else:
            reading.skipped["no_sample"] += 1


def _split(name: str) -> tuple[str, str]:
    """Key and extension of a file: the path up to the first dot of its last part, and what is behind that dot."""
    folder, slash, last = name.rpartition("/")
    base, _, ending = last.partition(".")
    return (folder + slash + base if base else ""), ending
