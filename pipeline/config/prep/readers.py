"""Where documents come from."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

from pipeline.config.base import Config
from pipeline.config.prep.paths import FilePath

Paths = Annotated[tuple[FilePath, ...], Field(min_length=1)]


def _separates(delimiter: str) -> str:
    if delimiter in '"\r\n\0':
        raise ValueError(
            f"{delimiter!r} ends lines, quotes values or is no text, so it cannot separate columns; give another"
        )
    return delimiter


class FieldMapping(Config):
    """Which fields of a record become what. A dotted name reaches into nested records: `metadata.url`."""

    text_field: str = "text"
    """Field of the text."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Name in Tarmac -> field of the record, such as `{url: meta.url, id: doc_id}`. `url` serves the URL filter and
    the report's domains."""


class StdlibReader(Config):
    """Python's own standard library, as installed: real text and code without a download."""

    type: Literal["stdlib"]
    """The reader."""
    suffixes: tuple[str, ...] = (".py", ".txt", ".rst")
    """Which files are read."""


class TextReader(Config):
    """Plain text (UTF-8), plain or compressed."""

    type: Literal["text"]
    """The reader."""
    paths: Paths
    """Files, folders (searched for *.txt, plain or compressed), globs or URLs of any of these. `/./` in one says where
    the names begin that its files have in the corpus."""
    document: Literal["file", "paragraph"] = "file"
    """What a document is: the whole file, or each stretch between blank lines."""


class JsonlReader(FieldMapping):
    """One document per line of JSON, or per record of a JSON array; compressed files are streamed."""

    type: Literal["jsonl"]
    """The reader."""
    paths: Paths
    """Files, folders (searched for *.jsonl and *.json, .gz and .zst too), globs or URLs of any of these."""


class CsvReader(FieldMapping):
    """One document per row of a table with a header line."""

    type: Literal["csv"]
    """The reader."""
    paths: Paths
    """Files, folders (searched for *.csv and *.tsv, .gz and .zst too), globs or URLs of any of these."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_separates)] = ","
    """What separates columns."""


class ParquetReader(FieldMapping):
    """One document per row; row groups are streamed and only the named columns are read."""

    type: Literal["parquet"]
    """The reader."""
    paths: Paths
    """Files, folders (searched for *.parquet), globs or URLs of any of these."""


class WarcReader(Config):
    """One document per page of a WARC, WET or ARC file, plain or compressed (ISO 28500; Internet Archive ARC 1.0)."""

    type: Literal["warc"]
    """The reader."""
    paths: Paths
    """Files, folders (searched for *.warc, *.wet, *.arc, .gz and .zst too), globs or URLs of any of these."""
    extraction: Literal["main", "all"] = "main"
    """Of an HTML page: its main text, without navigation and boilerplate, or all of its text."""
    max_page_bytes: PositiveInt = 10_000_000
    """Longer pages are rejected."""


class WebdatasetReader(Config):
    """One document per sample of existing webdataset tarballs."""

    type: Literal["webdataset"]
    """The reader."""
    paths: Paths
    """Files, folders (searched for *.tar, *.tar.gz), globs or URLs of any of these."""
    text_member: str = "txt"
    """Extension of the member that holds the text."""
    json_member: str | None = None
    """Extension of a JSON member; if given, the text is its `text_field`."""
    text_field: str = "text"
    """Field of the JSON member."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Name in Tarmac -> field of the JSON member."""


class HuggingFaceReader(FieldMapping):
    """A dataset of the `datasets` library, streamed: a hub id or a local folder."""

    type: Literal["huggingface"]
    """The reader."""
    dataset: FilePath
    """Hub id, local folder, or a builder's name (`json`, `parquet`, `csv`, `text`) with `data_files`."""
    name: str | None = None
    """The dataset's configuration."""
    split: str = "train"
    """Which split."""
    data_files: tuple[FilePath, ...] = ()
    """Files of a builder."""
    revision: str | None = None
    """Commit of a hub dataset; give it, so that the same config always reads the same rows."""
    num_shards: PositiveInt = 1
    """Into how many parts the stream is divided, each read by a task of its own unless it is known to be small."""


Reader = Annotated[
    StdlibReader
    | TextReader
    | JsonlReader
    | CsvReader
    | ParquetReader
    | WarcReader
    | WebdatasetReader
    | HuggingFaceReader,
    Field(discriminator="type"),
]
