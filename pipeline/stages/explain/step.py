"""The documents of a step, and the text that the model reads of them."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from pipeline.corpus.reader import DocumentSpan
from pipeline.data.conversations import Conversations
from pipeline.data.corpora import Corpora
from pipeline.data.loader import Loader, Share
from pipeline.data.order import Sample
from pipeline.errors import RunError
from pipeline.stages.explain.run import Explained

_START, _STOP = attrgetter("start"), attrgetter("stop")


@dataclass(frozen=True)
class Reading:
    """A stretch of a document in a sequence."""

    id: str
    """32 hexadecimal digits; empty for a conversation."""
    origin: str
    """File that it came from."""
    position: int
    """Its number in that file."""
    metadata: dict[str, str]
    """What was kept of its source's own fields."""
    first_token: int
    """First token of the document that is read."""
    last_token: int
    """The one behind the last."""
    document_tokens: int
    """Tokens of the whole document."""
    text: str
    """Of the tokens, as the model reads them: of a withdrawn document or a damaged chunk there is none."""
    is_withdrawn: bool
    """Whether its text is left out."""


@dataclass(frozen=True)
class Row:
    """A sequence of a step."""

    sample: int
    """Its number in the run, from 0."""
    rank: int
    micro_batch: int
    row: int
    """Its place in that micro batch."""
    source: str
    epoch: int
    shard: int
    sequence: int
    """Its number in the shard."""
    documents: tuple[Reading, ...]


@dataclass(frozen=True)
class StepRows:
    """What a step is made of."""

    run: str
    step: int
    """From 1."""
    is_trained: bool
    """Whether the newest checkpoint contains it."""
    branch: int
    """Rollbacks begin branches; the run's first one is 0."""
    num_abandoned: int
    """How often it was made on branches that were abandoned, which read other sequences."""
    world_size: int
    micro_size: int
    sequence_length: int
    global_size: int
    rows: tuple[Row, ...]
    """By their place in the global batch."""


def explain_step(
    run: Explained, step: int, rank: int | None = None, world_size: int | None = None, micro_size: int | None = None
) -> StepRows:
    """The sequences of a step, counted from 1; of one rank or of all.

    Raises:
        RunError: The run has no such step or rank.
    """
    if not run.makes(step):
        raise RunError(f"--step ({step}) must be in [1, {run.num_steps}], the steps of run {run.folder}")
    share = run.share(step, world_size, micro_size)
    if rank is not None and not 0 <= rank < share.world_size:
        raise RunError(f"--rank ({rank}) must be in [0, {share.world_size}), the ranks of step {step}")
    setting = run.order.phase(step - 1).setting
    samples = run.order.batch(step - 1)
    loader = Loader(run.data.source, run.order, Share(0, 1, len(samples)), run.data.tokenizer.pad_id)
    read = loader.batch(step - 1).micro_batches[0].input_ids.numpy()  # the very tokens, holes and padding included
    rows = [
        _row(run, step, sample, place, read[place].tolist(), share)
        for place, sample in enumerate(samples)
        if rank in (None, part_of(share, place)[0])
    ]
    return StepRows(str(run.folder), step, step <= run.num_trained, run.branch(step), run.num_abandoned(step),
                    share.world_size, share.micro_size, setting.sequence_length, setting.global_batch,
                    tuple(rows))  # fmt: skip


def part_of(share: Share, place: int) -> tuple[int, int, int]:
    """Rank, micro batch and row of a place in the global batch; any rank's share will do."""
    block, row = divmod(place, share.micro_size)
    micro_batch, rank = divmod(block, share.world_size)
    return rank, micro_batch, row


def _row(run: Explained, step: int, sample: Sample, place: int, tokens: list[int], share: Share) -> Row:
    at = sample.at
    return Row(
        sample.number,
        *part_of(share, place),
        at.source,
        at.epoch,
        at.shard,
        sample.sequence,
        _documents(run, step, sample, tokens),
    )


def _documents(run: Explained, step: int, sample: Sample, tokens: list[int]) -> tuple[Reading, ...]:
    source = run.data.source
    if isinstance(source, Conversations):
        origin, _, line = source.places[sample.sequence].rpartition(":")
        text = run.data.tokenizer.decode(tokens)
        return (Reading("", origin, int(line), {}, 0, len(tokens), len(tokens), text, False),)
    assert isinstance(source, Corpora)
    starts, stops, _ = run.order.cuts.pieces(sample.at).of(np.array([sample.sequence]))
    spans = source.shards[sample.at.source].spans(sample.at.shard)
    found, column = [], 0
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        inside = slice(bisect_right(spans, start, key=_STOP), bisect_left(spans, stop, key=_START))
        for span in spans[inside]:
            first, last = max(start, span.start), min(stop, span.stop)
            text = run.data.tokenizer.decode(tokens[column + first - start : column + last - start])
            found.append(_reading(span, first, last, text, run.withdraws(span.record.id, step)))
        column += stop - start
    return tuple(found)


def _reading(span: DocumentSpan, first: int, last: int, text: str, is_withdrawn: bool) -> Reading:
    record, size = span.record, span.stop - span.start
    metadata = dict(record.metadata)
    return Reading(record.id, record.origin, record.position, metadata, first - span.start, last - span.start, size,
                   text, is_withdrawn)  # fmt: skip
