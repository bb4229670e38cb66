"""What a source has to yield, or else the stage fails."""

from collections.abc import Sequence
from pathlib import Path

import orjson

from data_prep.dedup.exact import Kept
from data_prep.reading.losses import REJECTS_NAME
from data_prep.tasks.counts import total
from data_prep.tasks.store import Done
from pipeline.config.prep.recipe import Source
from pipeline.errors import CorpusError


def require_good_records(source: Source, reads: Sequence[Done], work: Path) -> None:
    """Raises CorpusError if too many of a source's records are bad, or too much is lost where they cannot be counted.

    A damaged stretch counts as one bad record, however many were in it: its bytes are compared with all bytes.
    """
    rejected = total(done.result.rejected for done in reads)
    bad, read = sum(rejected.values()), sum(done.result.read for done in reads)
    lost, whole = sum(done.result.lost_bytes for done in reads), sum(done.result.bytes for done in reads)
    share = source.max_rejected_share
    if bad <= share * read and lost <= share * whole:
        return
    reasons = ", ".join(f"{reason} {count}" for reason, count in rejected.items())
    first = _first_rejected(next(work / done.folder / REJECTS_NAME for done in reads if done.result.rejected))
    told = f", and with them about {lost} of {whole} bytes are lost" if lost else ""
    raise CorpusError(
        f"source {source.name!r}: {bad} of {read} records are bad ({reasons}){told}, more than max_rejected_share"
        f" ({share}) allows; {first}; mend the inputs or the reader's fields, or allow more"
    )


def _first_rejected(path: Path) -> str:
    """The first bad record of a reading task, and where its others are."""
    with path.open("rb") as file:
        line = orjson.loads(file.readline())
    detail = f", {line['detail']}" if line["detail"] else ""
    return (
        f"the first is record {line['position']} of {line['file']} ({line['reason']}{detail}), and more are in {path}"
    )


def require_documents(name: str, reads: Sequence[Done], kept: Kept) -> None:
    """Raises CorpusError if a source has no document left, with the reasons and what could be done."""
    if kept.documents:
        return
    reasons = {
        **total(done.result.rejected for done in reads),
        **total(done.result.skipped for done in reads),
        **total(done.result.dropped for done in reads),
        **losses(kept),
    }
    read = sum(done.result.read for done in reads)
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.items()) or "nothing was read"
    raise CorpusError(
        f"source {name!r} yields no document ({read} read; {told});"
        " give it other inputs, or loosen cleaning, filters or the reader's text_field"
    )


def losses(kept: Kept) -> dict[str, int]:
    """What deduplication dropped, by reason."""
    counts = {"duplicate": kept.exact, "near_duplicate": kept.near}
    return {reason: count for reason, count in counts.items() if count}
