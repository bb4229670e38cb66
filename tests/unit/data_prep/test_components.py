import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, count, pairwise
from pathlib import Path

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dedup.components import Budget, Decision, budget_for, connect, decide, move_edges
from data_prep.dedup.edges import Edges, EdgeWriter, both_ways, read_edges, sorted_edges
from data_prep.dedup.links import EARLIER, links
from data_prep.dedup.stars import Star, large_star, lowest_neighbours, small_star
from data_prep.documents.rows import BAND_ROW
from data_prep.documents.source import hash_ranges

Documents = dict[int, list[int]]
"""Node -> its band hashes."""

SPREAD = 0x9E3779B97F4A7C15
"""Odd: spreads small numbers over all ranges of nodes."""


def edges_of(pairs: Iterable[tuple[int, int]]) -> Edges:
    return np.array(list(pairs), np.uint64).reshape(-1, 2)


def rows_of(documents: Documents) -> np.ndarray:
    return np.array([(hash_, node) for node, hashes in documents.items() for hash_ in hashes], BAND_ROW)


def lowest_by_union_find(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The lowest node of each node's component."""
    parents: dict[int, int] = {}

    def find(node: int) -> int:
        while parents.setdefault(node, node) != node:
            node = parents[node]
        return node

    for first, second in pairs:
        low, high = sorted((find(first), find(second)))
        parents[high] = low
    return {node: find(node) for node in parents}


def naive_decision(sources: Sequence[Documents]) -> tuple[dict[int, int], dict[int, int]]:
    """Of the last source, node that goes -> node that stays in its place; and the clusters by size."""
    earlier = {hash_ for source in sources[:-1] for hashes in source.values() for hash_ in hashes}
    own, first = sources[-1], {}
    pairs = [(node, first.setdefault(hash_, node)) for node, hashes in own.items() for hash_ in hashes]
    lowest = lowest_by_union_find(pairs)
    touched = {lowest[node] for node, hashes in own.items() if earlier & set(hashes)}
    goes = {
        node: int(EARLIER) if low in touched else low for node, low in lowest.items() if low in touched or node != low
    }
    sizes = Counter(low for low in lowest.values() if low not in touched)
    return goes, dict(Counter(size for size in sizes.values() if size > 1))


def connected(folder: Path, edges: Sequence[Path], budget: Budget) -> tuple[list[Path], int]:
    """The stars of a graph and the rounds it took."""
    numbers = count()

    def step(star: Star, inputs: Sequence[Path]) -> tuple[list[Path], bool]:
        number = next(numbers)
        outputs = [folder / f"step-{number}" / str(part) for part in range(budget.num_ranges)]
        moved = [
            move_edges(star, inputs, *bounds, output, budget.max_edges)
            for bounds, output in zip(hash_ranges(budget.num_ranges), outputs, strict=True)
        ]
        return outputs, any(moved)

    return list(connect(list(edges), step)), next(numbers) // 2


def decided(folder: Path, edges: Sequence[Path], budget: Budget) -> Decision:
    """What goes of a source, its ranges put together."""
    stars, _ = connected(folder, edges, budget)
    parts = [decide(stars, *bounds, budget.max_edges) for bounds in hash_ranges(budget.num_ranges)]
    clusters: Counter[int] = Counter()
    for part in parts:
        clusters.update(part.clusters)
    return Decision(np.concatenate([part.duplicates for part in parts]), dict(clusters))


def deduplicated(
    folder: Path, sources: Sequence[Documents], num_hash_ranges: int, budget: Budget, seed: int
) -> Decision:
    """What goes of the last source, its rows shuffled."""
    rows = np.random.default_rng(seed).permutation(rows_of(sources[-1]))
    earlier = np.concatenate([rows_of(source)["hash"] for source in sources[:-1]] or [np.zeros(0, np.uint64)])
    folders = []
    for number, (first, last) in enumerate(hash_ranges(num_hash_ranges)):
        in_range = (rows["hash"] >= first) & (rows["hash"] <= last)
        folders.append(folder / f"links-{number}")
        with EdgeWriter(folders[-1], budget.max_edges) as writer:
            writer.add(links(rows[in_range], earlier[(earlier >= first) & (earlier <= last)]))
    return decided(folder, folders, budget)


def path_through(order: Sequence[int]) -> Edges:
    return edges_of((max(pair), min(pair)) for pair in pairwise(order))


budgets = st.builds(Budget, num_ranges=st.integers(1, 5), max_edges=st.integers(1, 30))
# few hashes and few nodes, so that documents of a source, and of several sources, are linked in chains
some_documents = st.dictionaries(
    st.integers(1, 40).map(lambda number: number * SPREAD % 2**64),
    st.lists(st.integers(0, 30).map(lambda number: number * SPREAD % 2**64), min_size=1, max_size=3, unique=True),
    max_size=25,
)


@given(
    sources=st.lists(some_documents, min_size=1, max_size=3),
    num_hash_ranges=st.integers(1, 4),
    budget=budgets,
    seed=st.integers(0, 9),
)
def test_what_goes_is_what_union_find_says(
    tmp_path_factory: pytest.TempPathFactory,
    sources: list[Documents],
    num_hash_ranges: int,
    budget: Budget,
    seed: int,
) -> None:
    decision = deduplicated(tmp_path_factory.mktemp("near"), sources, num_hash_ranges, budget, seed)
    goes, clusters = naive_decision(sources)
    assert dict(decision.duplicates.tolist()) == goes
    assert decision.duplicates.tolist() == sorted(decision.duplicates.tolist())
    assert decision.clusters == clusters


def test_a_chain_that_ends_in_an_earlier_source_goes_whole(tmp_path: Path) -> None:
    earlier = {7: [100]}
    own = {2: [1], 3: [1, 2], 4: [2, 100], 10: [50], 11: [50], 12: [60]}
    decision = deduplicated(tmp_path, [earlier, own], 1, Budget(1, 100), 0)
    assert decision.duplicates.tolist() == [[2, 0], [3, 0], [4, 0], [11, 10]]
    assert decision.clusters == {2: 1}


def test_a_source_does_not_see_later_ones(tmp_path: Path) -> None:
    first, second = {1: [5], 2: [5]}, {3: [5, 6], 4: [6]}
    alone = deduplicated(tmp_path / "a", [first], 1, Budget(1, 100), 0)
    assert alone.duplicates.tolist() == [[2, 1]]
    assert deduplicated(tmp_path / "b", [first, second], 1, Budget(1, 100), 0).duplicates.tolist() == [[3, 0], [4, 0]]


def test_links_of_nothing() -> None:
    assert links(np.zeros(0, BAND_ROW), np.zeros(0, np.uint64)).shape == (0, 2)
    assert links(rows_of({9: [1], 8: [2]}), np.array([3], np.uint64)).shape == (0, 2)


def test_no_edges_make_no_clusters(tmp_path: Path) -> None:
    decision = decided(tmp_path, [], Budget(3, 10))
    assert (decision.duplicates.shape, decision.clusters) == ((0, 2), {})


@pytest.mark.parametrize("order", ["ascending", "random", "zigzag", "there and back"])
def test_long_chains_take_few_rounds(tmp_path: Path, order: str) -> None:
    nodes = list(range(1, 100_001))
    orders = {
        "ascending": nodes,
        "random": random.Random(3).sample(nodes, len(nodes)),
        "zigzag": list(chain.from_iterable(zip(nodes[:50_000], reversed(nodes[50_000:]), strict=True))),
        "there and back": nodes[::2] + nodes[1::2][::-1],
    }
    with EdgeWriter(tmp_path / "edges", 30_000) as writer:
        writer.add(path_through(orders[order]))
    stars, rounds = connected(tmp_path, [tmp_path / "edges"], Budget(1, 60_000))
    assert rounds <= 18  # log2 of 100,000 is 16.6
    assert decide(stars, 0, 2**64 - 1, 1000).duplicates.tolist() == [[node, 1] for node in nodes[1:]]


def test_a_star_larger_than_memory_is_read_in_pieces(tmp_path: Path) -> None:
    leaves = [number * SPREAD % 2**64 for number in range(1, 3000)]
    with EdgeWriter(tmp_path / "edges", 100) as writer:
        for leaf in leaves:
            writer.add(edges_of([(leaf, 0)]))
        writer.add(path_through(leaves))
    budget = Budget(100, 100)
    stars, _ = connected(tmp_path, [tmp_path / "edges"], budget)
    sizes = [len(np.load(path)) for folder in stars for path in folder.iterdir()]
    assert max(sizes) < 200
    assert sum(sizes) == 2 * len(leaves)
    parts = [decide(stars, *bounds, budget.max_edges) for bounds in hash_ranges(budget.num_ranges)]
    assert [pair for part in parts for pair in part.duplicates.tolist()] == [[leaf, 0] for leaf in sorted(leaves)]


@pytest.mark.parametrize("num_edges", [500, 1200, 4000])
def test_random_graphs_as_networkx_sees_them(tmp_path: Path, num_edges: int) -> None:
    source = np.random.default_rng(num_edges)
    names = source.integers(1, 2**64, 2000, dtype=np.uint64)
    edges = names[source.integers(0, len(names), (num_edges, 2))]
    edges = edges[edges[:, 0] != edges[:, 1]]
    with EdgeWriter(tmp_path / "edges", 300) as writer:
        writer.add(np.sort(edges, axis=1)[:, ::-1])
    decision = decided(tmp_path, [tmp_path / "edges"], Budget(7, 256))
    components = list(networkx.connected_components(networkx.Graph(edges.tolist())))
    expected = sorted([node, min(part)] for part in components for node in part if node != min(part))
    assert decision.duplicates.tolist() == expected
    assert decision.clusters == Counter(len(part) for part in components)


def test_stars_of_one_node() -> None:
    lower = sorted_edges(edges_of([(9, 3), (9, 5), (9, 7)]))
    moved, any_moved = small_star(lower, lowest_neighbours([lower]))
    assert any_moved
    assert sorted_edges(moved).tolist() == [[3, 5], [3, 7], [5, 3], [7, 3]]
    around = sorted_edges(edges_of([(5, 3), (5, 8), (5, 9)]))
    moved, any_moved = large_star(around, lowest_neighbours([around]))
    assert (moved.tolist(), any_moved) == ([[8, 3], [9, 3]], True)
    star = sorted_edges(both_ways(edges_of([(8, 3), (9, 3)])))
    assert large_star(star, lowest_neighbours([star]))[1] is False


@given(
    pieces=st.lists(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 5)), max_size=8), max_size=5),
    num_ranges=st.integers(1, 4),
    max_edges=st.integers(1, 10),
)
def test_edges_come_back_range_by_range(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[tuple[int, int]]], num_ranges: int, max_edges: int
) -> None:
    folder = tmp_path_factory.mktemp("edges")
    with EdgeWriter(folder, max_edges) as writer:
        for piece in pieces:
            writer.add(edges_of(piece))
    back = []
    for first, last in hash_ranges(num_ranges):
        read = [edges.tolist() for edges in read_edges([folder], first, last, 3)]
        assert all(len(edges) <= 3 and edges == sorted(edges) for edges in read)
        assert all(first <= node <= last for edges in read for node, _ in edges)
        back += list(chain.from_iterable(read))
    assert {tuple(edge) for edge in back} == set(chain.from_iterable(pieces))


@given(st.lists(st.tuples(st.sampled_from([0, 1, 255, 256, 2**63, 2**64 - 1]), st.integers(0, 2**64 - 1) | st.just(7))))
def test_sorted_edges_are_sorted_and_there_once(pairs: list[tuple[int, int]]) -> None:
    edges = edges_of(pairs)
    assert [tuple(edge) for edge in sorted_edges(edges).tolist()] == sorted(set(pairs))
    assert edges.tolist() == [list(pair) for pair in pairs]


def test_more_memory_needs_fewer_ranges() -> None:
    small, large = budget_for(10**8, 2**27), budget_for(10**8, 2**30)
    assert large.num_ranges < small.num_ranges
    for budget in (small, large):
        assert budget.num_ranges * budget.max_edges >= 2 * 10**8
    assert budget_for(0, 2**30).num_ranges == 1
