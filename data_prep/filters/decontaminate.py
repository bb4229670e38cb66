"""Decontamination: documents that hold a piece of evaluation data go (Brown et al. 2020, arXiv:2005.14165, C)."""

import glob
import json
import re
from collections.abc import Iterator, MutableMapping
from os.path import isfile

from data_prep.filters.base import Dropped, Filter
from data_prep.filters.ngrams import NgramSet
from data_prep.readers.streams import open_input
from pipeline.config.prep.filters import Decontaminate
from pipeline.errors import ConfigError, CorpusError

_JSON = (".jsonl", ".json")
_COMPRESSED = (".gz", ".zst")
_PARAGRAPH_GAP = re.compile(r"\n\s*\n")
_WHITE_SPACE = re.compile(r"\s*")


def build(config: Decontaminate) -> Filter:
    """Drops texts that share an n-gram of words with evaluation files.

    Raises:
        ConfigError: A path matches no file, or the files hold no text that is long enough.
        CorpusError: A file cannot be read.
    """
    texts = (text for path in inputs(config) for text in read_texts(path))
    ngrams = NgramSet.from_texts(texts, config.ngram, config.min_words)
    if not ngrams.lengths:
        raise ConfigError(
            f"decontaminate: paths {', '.join(config.paths)} hold no text of {config.min_words} words; give other"
            " files, or a smaller min_words"
        )

    def judge(text: str, metadata: MutableMapping[str, str]) -> str | Dropped:
        return Dropped("contaminated") if ngrams.matches(text) else text

    return judge


def inputs(config: Decontaminate) -> list[str]:
    """The files, sorted. Raises ConfigError if a path matches none."""
    found = set[str]()
    for pattern in config.paths:
        matches = [path for path in glob.glob(pattern, recursive=True) if isfile(path)] or [pattern]
        if not isfile(matches[0]):
            raise ConfigError(f"decontaminate: paths: {pattern!r} matches no file; give a file or a glob")
        found.update(matches)
    return sorted(found)


def read_texts(path: str) -> Iterator[str]:
    """Every string in a file of JSON, at any depth; every paragraph of another file.

    Raises:
        CorpusError: The file cannot be read, or is not UTF-8 or JSON.
    """
    with open_input(path) as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        if _suffix_of(path).endswith(_JSON):
            yield from _strings(list(_json_values(text)))
        else:
            yield from _PARAGRAPH_GAP.split(text)
    except ValueError as error:
        raise CorpusError(f"evaluation file {path} cannot be read ({error}); mend it or leave it out") from error


def _suffix_of(path: str) -> str:
    """A path without the ending of a compressed file."""
    for ending in _COMPRESSED:
        path = path.removesuffix(ending)
    return path


def _json_values(text: str) -> Iterator[object]:
    """The values of a text, one after the other: JSON lines, or one value over many lines."""
    decoder, place = json.JSONDecoder(), 0
    while (match := _WHITE_SPACE.match(text, place)) and match.end() < len(text):
        value, place = decoder.raw_decode(text, match.end())
        yield value


def _strings(value: object) -> Iterator[str]:
    """The strings in a JSON value, keys of objects not among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _strings(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
