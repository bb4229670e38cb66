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

from data_prep.dedup import ordered
from data_prep.dedup.components import Budget, Decision, budget_for, connect, decide, move_edges
from data_prep.dedup.edges import Edges, EdgeWriter, both_ways, read_edges, sorted_edges
from data_prep.dedup.links import EARLIER, links
from data_prep.dedup.ordered import stretches
from data_prep.dedup.stars import Star, large_star, lowest_neighbours, small_star
from data_prep.documents.rows import BAND_ROW, BANDS, RowWriter
from data_prep.documents.source import hash_ranges
from pipeline.errors import CorpusError

Documents = dict[int, list[int]]
"""Node -> its band hashes."""

SPREAD = 0x9E3779B97F4A7C15
"""Odd: spreads small numbers over all ranges of nodes."""


def edges_of(pairs: Iterable[tuple[int, int]]) -> Edges:
    return np.array(list(pairs), np.uint64).reshape(-1, 2)


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


def written_rows(folder: Path, documents: Documents) -> Path:
    """A task's band hashes, as reading leaves them."""
    folder.mkdir(parents=True)
    with RowWriter(folder) as writer:
        for node, hashes in documents.items():
            writer.add_bands(np.array([node], np.uint64), np.array([hashes], np.uint64))
    return folder


def links_between(earlier: Sequence[Path], own: Sequence[Path], first: int, last: int) -> Edges:
    bounds = first, last
    found = links(stretches(earlier, BANDS, 0, *bounds), stretches(own, BANDS, 1, *bounds))
    return np.concatenate([np.zeros((0, 2), np.uint64), *found])


def deduplicated(
    folder: Path, sources: Sequence[Documents], num_hash_ranges: int, budget: Budget, max_rows: int = 10**6
) -> Decision:
    """What goes of the last source, each read by two tasks."""
    *earlier, own = [
        [
            written_rows(folder / f"source-{number}" / str(task), dict(list(source.items())[task::2]))
            for task in range(2)
        ]
        for number, source in enumerate(sources)
    ]
    folders = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "MAX_BYTES", max_rows * BAND_ROW.itemsize)
        for number, bounds in enumerate(hash_ranges(num_hash_ranges)):
            folders.append(folder / f"links-{number}")
            with EdgeWriter(folders[-1], budget.max_edges) as writer:
                writer.add(links_between(list(chain.from_iterable(earlier)), own, *bounds))
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
    max_rows=st.integers(1, 20),
)
def test_what_goes_is_what_union_find_says(
    tmp_path_factory: pytest.TempPathFactory,
    sources: list[Documents],
    num_hash_ranges: int,
    budget: Budget,
    max_rows: int,
) -> None:
    decision = deduplicated(tmp_path_factory.mktemp("near"), sources, num_hash_ranges, budget, max_rows)
    goes, clusters = naive_decision(sources)
    assert dict(decision.duplicates.tolist()) == goes
    assert decision.duplicates.tolist() == sorted(decision.duplicates.tolist())
    assert decision.clusters == clusters


def test_a_chain_that_ends_in_an_earlier_source_goes_whole(tmp_path: Path) -> None:
    earlier = {7: [100]}
    own = {2: [1], 3: [1, 2], 4: [2, 100], 10: [50], 11: [50], 12: [60]}
    decision = deduplicated(tmp_path, [earlier, own], 1, Budget(1, 100))
    assert decision.duplicates.tolist() == [[2, 0], [3, 0], [4, 0], [11, 10]]
    assert decision.clusters == {2: 1}


def test_a_source_does_not_see_later_ones(tmp_path: Path) -> None:
    first, second = {1: [5], 2: [5]}, {3: [5, 6], 4: [6]}
    alone = deduplicated(tmp_path / "a", [first], 1, Budget(1, 100))
    assert alone.duplicates.tolist() == [[2, 1]]
    assert deduplicated(tmp_path / "b", [first, second], 1, Budget(1, 100)).duplicates.tolist() == [[3, 0], [4, 0]]


def test_links_of_nothing(tmp_path: Path) -> None:
    earlier, own = written_rows(tmp_path / "a", {5: [3]}), written_rows(tmp_path / "b", {9: [1], 8: [2]})
    assert links_between([], [], 0, 2**64 - 1).shape == (0, 2)
    assert links_between([earlier], [own], 0, 2**64 - 1).shape == (0, 2)


@pytest.mark.parametrize("max_rows", [1, 7, 1000])
def test_a_hash_of_more_documents_than_memory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_rows: int
) -> None:
    """All are linked to the lowest of them, or to the earlier source that has it; the hashes beside it are as ever."""
    monkeypatch.setattr(ordered, "MAX_BYTES", max_rows * BAND_ROW.itemsize)
    nodes = [number * SPREAD % 2**64 for number in range(1, 301)]
    own = [
        written_rows(tmp_path / str(task), {node: [8, 9] if task else [8] for node in nodes[task::3]})
        for task in range(3)
    ]
    earlier = [written_rows(tmp_path / f"earlier-{task}", {node: [9] for node in nodes[task::2]}) for task in range(2)]
    expected = {(node, min(nodes)) for node in nodes} - {(min(nodes), min(nodes))}
    assert {tuple(edge) for edge in links_between([], own, 8, 8).tolist()} == expected
    expected |= {(node, int(EARLIER)) for number, node in enumerate(nodes) if number % 3}
    found = links_between(earlier, own, 0, 2**64 - 1).tolist()
    assert (len(found), {tuple(edge) for edge in found}) == (299 + 200, expected)


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
    sizes = [len(np.load(path)) for folder in stars for path in folder.glob("*.npy")]
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


@pytest.mark.parametrize("name", ["edges-000001.npy", "edges.count"])
def test_a_lost_file_of_edges_is_an_error(tmp_path: Path, name: str) -> None:
    with EdgeWriter(tmp_path, 2) as writer:
        for leaf in range(1, 7):
            writer.add(edges_of([(leaf, 0)]))
    assert sum(map(len, read_edges([tmp_path], 0, 9, 10))) == 6
    (tmp_path / name).unlink()
    with pytest.raises(CorpusError, match=rf"{name} is missing or damaged"):
        list(read_edges([tmp_path], 0, 9, 10))


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
