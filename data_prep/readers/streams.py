"""Opening input files, plain or compressed."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import zstandard

from data_prep.readers.zstd import ZstdStream
from pipeline.errors import CorpusError

_BUFFER_BYTES = 1 << 20


@contextmanager
def open_input(path: str) -> Iterator[io.BufferedReader]:
    """The bytes of a file, decompressed if its name ends in `.gz` or `.zst`.

    Raises:
        CorpusError: The file cannot be read, or its compressed data is damaged or cut short.
    """
    try:
        with open(path, "rb") as raw:
            if path.endswith(".gz"):
                yield io.BufferedReader(gzip.GzipFile(fileobj=raw), _BUFFER_BYTES)
            elif path.endswith(".zst"):
                yield io.BufferedReader(ZstdStream(raw), _BUFFER_BYTES)
            else:
                yield raw
    except (gzip.BadGzipFile, zlib.error, EOFError, zstandard.ZstdError) as error:
        raise CorpusError(f"input {path} is damaged or cut short ({error}); fetch it again or leave it out") from error
    except OSError as error:
        raise CorpusError(f"input {path} cannot be read: {error.strerror}; mend or leave out the file") from error
