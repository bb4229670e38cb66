"""Components of the near-duplicates among 10^7 synthetic documents: seconds, rounds, edges, memory.

    .venv/bin/python -m benchmarks.components [--documents N] [--memory-mib M] [--folder F]

Three in five documents are alone. The others are in clusters whose sizes follow a power law up to 100,000, in one
cluster of 3 in 100 of all documents, as boilerplate makes them, and in long chains in which only neighbours are alike.
Five in 100 clusters are near an earlier source. One process does everything.
"""

import argparse
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.components import Budget, budget_for, connect, decide, move_edges
from data_prep.dedup.edges import Edges, EdgeWriter, sorted_edges
from data_prep.dedup.links import EARLIER
from data_prep.dedup.stars import Star
from data_prep.documents.source import hash_ranges
from data_prep.documents.words import mix

_MIB = 1 << 20
_LINKS = 4
"""Edges that each document of a cluster brings, as it would agree in several bands with others."""
_NEAR_EARLIER = 20
"""Of so many clusters one is linked to an earlier source."""


def main() -> None:
    """Make a graph in another process, find its components in this one, check and print."""
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="components-", dir=arguments.folder))
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            num_edges, expected = pool.apply(write_graph, (folder / "edges", arguments.documents))
        budget = budget_for(num_edges, arguments.memory_mib * _MIB)
        before, start, start_cpu = _peak_mib(), time.perf_counter(), time.process_time()
        duplicates, rounds = run(folder, budget)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    finally:
        shutil.rmtree(folder)
    assert duplicates == expected, f"{duplicates} documents go, {expected} should"
    print(f"documents {arguments.documents:,}, of which {duplicates:,} go")
    print(f"edges {num_edges:,} in {budget.num_ranges} ranges, {rounds} rounds")
    print(
        f"{seconds:.0f} s, of which {cpu_seconds:.0f} on the processor: {cpu_seconds / num_edges * 1e6:.1f} us an edge"
    )
    print(f"peak memory {_peak_mib()} MiB ({before} MiB before), for tasks of {arguments.memory_mib} MiB")


def run(folder: Path, budget: Budget) -> tuple[int, int]:
    """How many documents of the graph in `folder/edges` go, and the rounds it took."""
    steps: list[Star] = []

    def step(star: Star, inputs: Sequence[Path]) -> tuple[Sequence[Path], bool]:
        steps.append(star)
        outputs = [folder / f"step-{len(steps)}" / str(number) for number in range(budget.num_ranges)]
        tasks = zip(hash_ranges(budget.num_ranges), outputs, strict=True)
        moved = [move_edges(star, inputs, *bounds, output, budget.max_edges) for bounds, output in tasks]
        shutil.rmtree(
            folder / f"step-{len(steps) - 2}", ignore_errors=True
        )  # what the last step read is still asked for
        return outputs, any(moved)

    edges: Sequence[Path] = [folder / "edges"]
    stars = connect(edges, step)
    decisions = (decide(stars, *bounds, budget.max_edges) for bounds in hash_ranges(budget.num_ranges))
    return sum(len(decision.duplicates) for decision in decisions), len(steps) // 2


def write_graph(folder: Path, num_documents: int) -> tuple[int, int]:
    """Write a graph; return its number of edges and of the documents that should go."""
    source = np.random.default_rng(1)
    num_edges, expected, first = 0, 0, 0
    with EdgeWriter(folder, 1 << 22) as writer:
        for sizes, is_chain in _clusters(num_documents, source):
            edges, near_earlier = _cluster_edges(first, sizes, is_chain, source)
            edges = sorted_edges(edges)
            writer.add(edges)
            num_edges += len(edges)
            expected += int((sizes - 1).sum()) + near_earlier
            first += int(sizes.sum())
    assert first < num_documents
    return num_edges, expected


def _clusters(num_documents: int, source: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], bool]]:
    """Sizes of some clusters, and whether they are chains."""
    yield np.array([num_documents * 3 // 100]), False
    yield np.array([num_documents // 100]), True
    yield np.full(num_documents // 100_000, 1000), True
    left = num_documents * 35 // 100
    while left > 0:
        sizes = np.minimum(2 / (1 - source.random(100_000)) ** (1 / 1.3), 100_000).astype(np.int64)
        sizes = sizes[np.cumsum(sizes) <= max(left, 2)]
        yield sizes, False
        left -= int(sizes.sum()) or left


def _cluster_edges(
    first: int, sizes: NDArray[np.int64], is_chain: bool, source: np.random.Generator
) -> tuple[Edges, int]:
    """Edges (node, lower node) of clusters of documents from number `first` on; how many are near an earlier source."""
    starts = np.cumsum(sizes) - sizes
    place = np.arange(sizes.sum()) - np.repeat(starts, sizes)
    members = np.tile(np.flatnonzero(place), 1 if is_chain else _LINKS)
    reach = 1 if is_chain else np.ceil(source.random(len(members)) * place[members]).astype(np.int64)
    pairs = np.stack([members, members - reach], axis=1) + first
    edges = np.sort(mix(pairs.astype(np.uint64)), axis=1)[:, ::-1]
    near = mix((starts[::_NEAR_EARLIER] + first).astype(np.uint64))
    return np.concatenate([edges, np.stack([near, np.full(len(near), EARLIER)], axis=1)]), len(near)


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // _MIB


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10**7, help="how many documents (10,000,000)")
    parser.add_argument("--memory-mib", type=int, default=256, help="memory of a task (256)")
    parser.add_argument("--folder", help="where the files go; a temporary folder if not given")
    return parser.parse_args()


if __name__ == "__main__":
    main()
