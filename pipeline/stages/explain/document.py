"""When a document was seen, and when it will be."""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice

from pipeline.data.corpora import Corpora
from pipeline.data.loader import Share
from pipeline.data.occurrences import Occurrence, occurrences
from pipeline.errors import RunError
from pipeline.stages.explain.find import find_document
from pipeline.stages.explain.run import Explained
from pipeline.stages.explain.step import part_of


@dataclass(frozen=True)
class Place:
    """Where the document lies."""

    source: str
    shard: int
    first_token: int
    """Its first token in the shard."""
    tokens: int


@dataclass(frozen=True)
class Seen:
    """A sequence that holds some of the document."""

    step: int
    """From 1."""
    is_trained: bool
    """Whether the newest checkpoint contains that step."""
    rank: int
    micro_batch: int
    row: int
    """Its place in that micro batch."""
    source: str
    epoch: int
    shard: int
    sequence: int
    """Its number in the shard."""
    is_withdrawn: bool
    """Whether the step reads padding in its place."""


@dataclass(frozen=True)
class DocumentTimes:
    """A document's whole story in a run."""

    run: str
    id: str
    origin: str
    position: int
    metadata: dict[str, str]
    places: tuple[Place, ...]
    """Where it lies: usually in one place, but several corpora may have it."""
    num_trained: int
    """Steps that the newest checkpoint contains."""
    num_steps: int
    """Steps of the whole run."""
    seen: tuple[Seen, ...]
    """In the order of steps: all in the past, and the next ones."""
    is_complete: bool
    """Whether there are no more up to the end of the run."""


def explain_document(
    run: Explained, name: str, times: int, world_size: int | None = None, micro_size: int | None = None
) -> DocumentTimes:
    """The past sequences with a document, given by id or as origin#position, and the next `times` ones.

    Raises:
        RunError: The run reads no corpus or no such document, or a number is out of range.
    """
    if times < 0:
        raise RunError(f"--times ({times}) must be at least 0")
    source = run.data.source
    if not isinstance(source, Corpora):
        raise RunError(f"run {run.folder} reads conversations, which have no ids; --document needs a run on a corpus")
    found = find_document(source, name)
    reads = [
        occurrences(run.order, one.source, one.shard, one.span.start, one.span.stop, run.num_steps) for one in found
    ]
    past, coming, is_complete = _parted(merge(*reads, key=lambda one: one[:2]), run.num_trained, times)
    seen = tuple(
        _seen(run, found[0].span.record.id, one, run.share(one.step + 1, world_size, micro_size))
        for one in (*past, *coming)
    )
    places = tuple(Place(one.source, one.shard, one.span.start, one.span.stop - one.span.start) for one in found)
    record = found[0].span.record
    return DocumentTimes(
        str(run.folder), record.id, record.origin, record.position, dict(record.metadata), places, run.num_trained,
        run.num_steps, seen, is_complete,
    )  # fmt: skip


def _parted(
    reads: Iterator[Occurrence], num_trained: int, times: int
) -> tuple[list[Occurrence], list[Occurrence], bool]:
    """Those in the past, the next so many, and whether these are all."""
    past: list[Occurrence] = []
    for one in reads:
        if one.step >= num_trained:
            coming = [one, *islice(reads, times)]
            return past, coming[:times], len(coming) <= times
        past.append(one)
    return past, [], True


def _seen(run: Explained, document: str, one: Occurrence, share: Share) -> Seen:
    is_trained, at = one.step < run.num_trained, one.at
    return Seen(one.step + 1, is_trained, *part_of(share, one.place), at.source, at.epoch, at.shard, one.sequence,
                run.withdraws(document, one.step + 1))  # fmt: skip
