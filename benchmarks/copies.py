"""Deduplication where one page comes over and over: seconds and peak memory of each kind of task.

    .venv/bin/python -m benchmarks.copies [--copies N] [--folder F]

All documents have one text and one band hash, so they are in one range of hashes however finely these are divided.
Each task runs in a process of its own.
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.components import budget_for
from data_prep.dedup.exact import DedupTask, SourceReads
from data_prep.dedup.near import MEMORY_BYTES, DecideTask, LinkTask, StarTask
from data_prep.dedup.stars import Star
from data_prep.documents.rows import BAND_ROW, BANDS, COUNTS_NAME, HASH_ROW, HASHES, NODE_ROW, NODES, sorted_rows
from data_prep.documents.runs import write_array
from data_prep.documents.source import hash_ranges
from data_prep.documents.words import mix
from data_prep.tasks.task import Task

_HASH = 1 << 62
_RUN_ROWS = 1 << 18
_LAST = (1 << 64) - 1


def main() -> None:
    """Write the rows, run the tasks and print."""
    arguments = _arguments()
    work = Path(tempfile.mkdtemp(prefix="copies-", dir=arguments.folder))
    try:
        reads = SourceReads("pages", "", tuple(write_rows(work, arguments.copies)))
        print("| tasks | number | seconds, all | MiB, largest |\n|---|---|---|---|")
        for name, tasks in phases(reads, arguments.copies):
            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
                items = [(work, f"{name}-{number}", task) for number, task in enumerate(tasks)]
                seconds, peaks = zip(*pool.starmap(measure, items, chunksize=1), strict=True)
            print(f"| {name} | {len(tasks)} | {sum(seconds):.1f} | {max(peaks):,} |", flush=True)
    finally:
        shutil.rmtree(work)


def write_rows(work: Path, copies: int) -> Iterator[str]:
    """What reading leaves of documents with equal texts; yields the tasks' folders."""
    for number, start in enumerate(range(0, copies, _RUN_ROWS)):
        nodes = mix(np.arange(start, min(start + _RUN_ROWS, copies), dtype=np.uint64))
        (work / f"read-{number}").mkdir()
        for name, dtype in ((HASHES, HASH_ROW), (BANDS, BAND_ROW), (NODES, NODE_ROW)):
            write_array(work / f"read-{number}" / f"{name}-000000.npy", _rows(dtype, nodes))
        (work / f"read-{number}" / COUNTS_NAME).write_text(json.dumps({HASHES: 1, BANDS: 1, NODES: 1}))
        yield f"read-{number}"


def _rows(dtype: "np.dtype[Any]", nodes: NDArray[np.uint64]) -> NDArray[Any]:
    rows = np.zeros(len(nodes), dtype)
    for name in {"upper", "hash"} & set(dtype.names or ()):
        rows[name] = _HASH
    rows["node"] = nodes
    return sorted_rows(rows)


def phases(reads: SourceReads, copies: int) -> Iterator[tuple[str, list[Task]]]:
    """Each kind of task over all hashes; the graph's in as many ranges of nodes as it would be divided into."""
    bounds, budget = (0, _LAST), budget_for(copies, MEMORY_BYTES)
    nodes = hash_ranges(budget.num_ranges)

    def star(kind: Star, inputs: tuple[str, ...]) -> list[Task]:
        return [StarTask(kind, "", *both, budget.max_edges, inputs) for both in nodes]

    def folders(name: str) -> tuple[str, ...]:
        return tuple(f"{name}-{number}" for number in range(len(nodes)))

    yield "links", [LinkTask(reads, (), *bounds)]
    yield "small star", star("small", ("links-0",))
    yield "large star", star("large", folders("small star"))
    yield "near", [DecideTask(reads, "", *both, budget.max_edges, folders("small star")) for both in nodes]
    yield "dedup", [DedupTask((reads,), *bounds, True, "", {})]
    yield "dedup, near", [DedupTask((reads,), *bounds, True, "", {reads.name: folders("near")})]


def measure(work: Path, folder: str, task: Task) -> tuple[float, int]:
    """Seconds and peak memory of a task."""
    (work / folder).mkdir()
    start = time.perf_counter()
    task.run(work, work / folder)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=10**7, help="how many documents (10,000,000)")
    parser.add_argument("--folder", help="where the files go; a temporary folder if not given")
    return parser.parse_args()


if __name__ == "__main__":
    main()
