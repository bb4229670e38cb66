"""Where a document lies: the metadata of all shards is searched, several shards at a time.

Shards that are elsewhere are fetched for that, one after the other as far as there is room for them.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from rich.console import Console
from rich.progress import track

from pipeline.corpus.reader import DocumentSpan
from pipeline.data.corpora import Corpora, CorpusSource
from pipeline.errors import RunError

_THREADS = 8


class Found(NamedTuple):
    """A document's place."""

    source: str
    shard: int
    span: DocumentSpan


class _Wanted(NamedTuple):
    """What is looked for: an id, or an origin and a position in it."""

    id: str
    origin: str
    position: int

    @property
    def needle(self) -> bytes:
        """Bytes that the metadata of a chunk with the document holds."""
        return json.dumps(self.id or self.origin, ensure_ascii=False).encode()

    def is_met_by(self, span: DocumentSpan) -> bool:
        record = span.record
        return record.id == self.id or (not self.id and (record.origin, record.position) == self[1:])


def find_document(source: Corpora, name: str) -> list[Found]:
    """Where a document lies, given by id or as origin#position: several corpora may have it.

    Raises:
        RunError: None has it.
        CorpusError: A shard cannot be read.
    """
    origin, _, position = name.rpartition("#")
    wanted = _Wanted("", origin, int(position)) if origin and position.isdecimal() else _Wanted(name, "", 0)
    shards = [(key, shard) for key, one in source.shards.items() for shard in range(len(one.entries))]
    found = [
        Found(key, shard, span)
        for key, shard in _candidates(source, shards, wanted.needle)
        for span in source.shards[key].spans(shard)
        if wanted.is_met_by(span)
    ]
    if not found:
        raise RunError(f"--document {name} is in none of the run's {len(shards)} shards; give an id or origin#position")
    return found


def _candidates(source: Corpora, shards: list[tuple[str, int]], needle: bytes) -> list[tuple[str, int]]:
    """Shards whose metadata holds some bytes."""
    with ThreadPoolExecutor(_THREADS) as executor:
        holds = executor.map(lambda place: _holds(source.shards[place[0]], place[1], needle), shards)
        console = Console(stderr=True)
        shown = track(zip(shards, holds, strict=True), "searching", total=len(shards), console=console, transient=True)
        return [place for place, held in shown if held]


def _holds(source: CorpusSource, shard: int, needle: bytes) -> bool:
    return source.read(shard, lambda reader: any(needle in meta for meta in reader.raw_metadata()))
