"""Deduplication over all sources, range by range of the hashes."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from data_prep.dedup.exact import DedupTask, Kept, SourceReads, merge_kept
from data_prep.dedup.near import NearDuplicates
from data_prep.documents.rows import BANDS, GONE, HASHES, NODES
from data_prep.documents.runs import DOCUMENTS_NAME
from data_prep.documents.source import GoneFolder, hash_ranges
from data_prep.tasks.runner import Runner
from data_prep.tasks.store import Done, Output

_RANGE_DOCUMENTS = 1 << 21
"""Documents in a range, about; their rows are held in memory."""


def source_reads(name: str, reads: Sequence[Done]) -> SourceReads:
    """What the reading tasks of a source left."""
    outputs = [output for done in reads for output in done.outputs]
    sizes = Counter[str]()
    for output in outputs:
        sizes[output.name.partition("-")[0]] += output.bytes
    folders = tuple(done.folder for done in reads)
    rows, documents = _digest(outputs, HASHES, BANDS), _digest(outputs, DOCUMENTS_NAME)
    return SourceReads(name, rows, folders, sizes[BANDS], sizes[NODES], documents)


def _digest(outputs: Iterable[Output], *names: str) -> str:
    """Checksum over the files whose names begin with one of `names`."""
    digest = hashlib.sha256()
    for output in outputs:
        if output.name.startswith(names):
            digest.update(f"{output.name} {output.xxh3}\n".encode())
    return digest.hexdigest()


def deduplicate(
    sources: Sequence[SourceReads], documents: int, exact: bool, near: NearDuplicates, runner: Runner
) -> dict[str, tuple[Kept, tuple[GoneFolder, ...]]]:
    """What stays of each source, and the folders that say what goes.

    Args:
        sources: In the order of the config.
        documents: How many there are, over all sources.
        exact: Whether equal texts are duplicates.
        near: Documents that go for being nearly equal to another.
        runner: Runs the tasks.
    """
    tasks = [
        DedupTask(tuple(sources), first, last, exact, near.digest, near.folders)
        for first, last in hash_ranges(-(-documents // _RANGE_DOCUMENTS) or 1)
    ]
    found = list(zip(tasks, runner.run(tasks), strict=True))
    return {source.name: _of_source(source.name, found) for source in sources}


def _of_source(name: str, found: Sequence[tuple[DedupTask, Done]]) -> tuple[Kept, tuple[GoneFolder, ...]]:
    mine = [(task, done) for task, done in found if name in done.result]
    gone = tuple(
        GoneFolder(task.first, task.last, str(PurePosixPath(done.folder) / f"{GONE}-{name}")) for task, done in mine
    )
    return merge_kept(done.result[name] for _, done in mine), gone
