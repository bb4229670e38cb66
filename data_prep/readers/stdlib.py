"""Python's own standard library: real text and code on every machine, without a download."""

import sysconfig

from data_prep.readers import text
from data_prep.readers.files import InputFile, input_files
from data_prep.readers.local import walk
from data_prep.readers.reading import FileReading, Records
from pipeline.config.prep.readers import StdlibReader
from pipeline.errors import ConfigError

_SKIPPED_FOLDERS = ("site-packages", "dist-packages", "__pycache__")
"""What users installed, and caches: neither is part of the library."""


def find(reader: StdlibReader) -> list[InputFile]:
    """The library's files with the reader's suffixes. Raises ConfigError if there is none."""
    root = sysconfig.get_paths()["stdlib"]
    files = sorted(input_files(walk(root, reader.suffixes, _SKIPPED_FOLDERS), root), key=lambda file: file.origin)
    if not files:
        raise ConfigError(f"suffixes ({', '.join(reader.suffixes)}) match no file of the standard library; try .py")
    return files


def read(reader: StdlibReader, reading: FileReading) -> Records:
    """The file as one document."""
    return text.whole_file(reading)
