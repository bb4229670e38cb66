"""One document per text file."""

from collections.abc import Iterator

from data_prep.document import Document
from data_prep.readers.files import InputFile, match_files
from data_prep.readers.streams import open_input
from pipeline.config.prep import TextReader


def find(reader: TextReader) -> list[InputFile]:
    """The reader's files."""
    return match_files(reader.paths, (".txt",))


def read(source: str, file: InputFile) -> Iterator[Document]:
    """The file as one document; bytes that are not UTF-8 become U+FFFD, which cleaning counts."""
    with open_input(file.path) as stream:
        yield Document(source, file.origin, 0, stream.read().decode("utf-8-sig", errors="replace"))
