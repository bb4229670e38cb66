"""One input file being read."""

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from data_prep.documents.document import BrokenRecord, Document
from data_prep.readers.files import InputFile
from data_prep.readers.flaw import Flaw
from data_prep.readers.streams import HashedFile, decompressed

Records = Iterator[Document | BrokenRecord]


class FileReading:
    """The documents of a file, in its order, and broken records among them. Iterate once.

    Iterating raises CorpusError if the file cannot be read, and MissingDependencyError.
    """

    def __init__(self, source: str, file: InputFile, read: Callable[["FileReading"], Records]) -> None:
        """Read `file` of a source by `read`, a reader's function."""
        self.source = source
        self.file = file
        self.skipped = Counter[str]()
        """How many records are no documents and nothing is wrong with them, by reason."""
        self.content_hash: str | None = None
        """Once all is read: xxh3_128 of the file's bytes as they are stored, in hexadecimal; None where is no file."""
        self.bytes = max(1, file.bytes)
        """Once all is read: about how much content it has, with what of it was lost; 1 where that is not known."""
        self.stored_bytes: Callable[[], float] = lambda: 0.0
        """About how much of the file as it is stored is read so far: streams are up to a mebibyte ahead of the records,
        where columns are read it is the share of the rows; 0 where it is not known."""
        self._read = read

    def __iter__(self) -> Records:
        """Read it."""
        return self._read(self)

    def document(self, position: int, text: str, metadata: Mapping[str, str] | None = None) -> Document:
        """A document of this file."""
        return Document(self.source, self.file.origin, position, text, {} if metadata is None else metadata)

    def broken(self, position: int, flaw: Flaw) -> BrokenRecord:
        """A broken record of this file."""
        return BrokenRecord(flaw.reason, self.file.origin, position, flaw.detail, flaw.records, flaw.lost_bytes)

    @contextmanager
    def open(self) -> Iterator[io.BufferedReader]:
        """The file's content from its start, decompressed. Takes the content hash at the end, so read it once."""
        with HashedFile(self.file) as hashed:
            stream = decompressed(hashed, self.file.path)
            self.stored_bytes = hashed.tell
            yield stream
            self.bytes = stream.tell()
            self.content_hash = hashed.finish()
