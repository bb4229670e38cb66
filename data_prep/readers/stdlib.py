"""Python's own standard library: real text and code on every machine, without a download."""

import sysconfig

from data_prep.readers.files import InputFile, input_files, walk
from pipeline.config.prep import StdlibReader
from pipeline.errors import ConfigError

_SKIPPED_FOLDERS = ("site-packages", "dist-packages", "__pycache__")
"""What users installed, and caches: neither is part of the library."""


def find(reader: StdlibReader) -> list[InputFile]:
    """The library's files with the reader's suffixes. Raises ConfigError if there is none."""
    root = sysconfig.get_paths()["stdlib"]
    files = walk(root, reader.suffixes, _SKIPPED_FOLDERS)
    if not files:
        raise ConfigError(f"suffixes ({', '.join(reader.suffixes)}) match no file of the standard library; try .py")
    return input_files(files, root)
