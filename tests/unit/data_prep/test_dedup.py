from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dedup import ordered
from data_prep.dedup.exact import DedupTask, Kept, SourceReads, merge_kept
from data_prep.documents.document import lower_half, upper_half
from data_prep.documents.rows import GONE, GONE_ROW, HASH_ROW, read_rows, sorted_rows
from data_prep.documents.runs import write_array
from data_prep.documents.source import hash_ranges
from data_prep.documents.split import Extremes, SplitShares
from tests.unit.data_prep.reads import UPPER_MAX, Given, hashes, write_reads

SHARES = SplitShares(0.3, 0.2)


class Drawn(NamedTuple):
    """A document, the task that reads it, and whether it is nearly equal to another that stays."""

    document: Given
    task: int
    near: bool


def drawn(hash_: int, position: int, task: int, near: bool) -> Drawn:
    text = b"x" * (hash_ % 11)  # equal hashes, equal texts
    return Drawn(Given(SHARES.split_of(hash_), hash_, "file", position, text), task, near)


DRAWN = st.builds(drawn, hashes(4), st.integers(0, 5), st.integers(0, 2), st.booleans())
SOURCE = st.lists(DRAWN, max_size=8, unique_by=lambda one: one.document.position)
CORPUS = st.lists(SOURCE, min_size=1, max_size=3)


@dataclass
class Expected:
    """What the definition says, document by document."""

    gone: list[tuple[int, int]] = field(default_factory=list)
    left: list[Given] = field(default_factory=list)
    exact: int = 0
    near: int = 0


def expected_of(corpus: Sequence[Sequence[Drawn]], exact: bool) -> dict[str, Expected]:
    seen: set[int] = set()
    found = {}
    for number, source in enumerate(corpus):
        name, expected = f"s{number}", Expected()
        for one in sorted(source, key=lambda one: one.document.node(name)):
            repeated = exact and one.document.hash in seen
            seen.add(one.document.hash)
            expected.exact += repeated
            expected.near += one.near and not repeated
            if repeated or one.near:
                expected.gone.append((upper_half(one.document.hash), one.document.node(name)))
            else:
                expected.left.append(one.document)
        found[name] = expected
    return found


class Found(NamedTuple):
    kept: Kept
    gone: list[tuple[int, int]]


def run(
    work: Path, corpus: Sequence[Sequence[Drawn]], num_ranges: int, exact: bool = True, max_rows: int = 10**6
) -> dict[str, Found]:
    """What deduplication finds when it is divided into so many ranges, and holds so many rows at a time."""
    sources = tuple(write_source(work, f"s{number}", source) for number, source in enumerate(corpus))
    near = {source.name: (f"near-{source.name}",) for source in sources}
    parts: list[Mapping[str, Kept]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "MAX_BYTES", max_rows * HASH_ROW.itemsize)
        for number, (first, last) in enumerate(hash_ranges(num_ranges)):
            folder = work / f"range-{number}"
            folder.mkdir()
            parts.append(DedupTask(sources, first, last, exact, "", near).run(work, folder))
    return {source.name: collect(work, source.name, parts) for source in sources}


def write_source(work: Path, name: str, source: Sequence[Drawn]) -> SourceReads:
    tasks = sorted({one.task for one in source})
    for task in tasks:
        write_reads(work / f"{name}-{task}", name, [one.document for one in source if one.task == task])
    near = [(upper_half(one.document.hash), one.document.node(name)) for one in source if one.near]
    (work / f"near-{name}").mkdir()
    write_array(work / f"near-{name}" / f"{GONE}-0.npy", sorted_rows(np.array(near, dtype=GONE_ROW)))
    return SourceReads(name, "", tuple(f"{name}-{task}" for task in tasks))


def collect(work: Path, name: str, parts: Sequence[Mapping[str, Kept]]) -> Found:
    folders = [work / f"range-{number}" / f"gone-{name}" for number, part in enumerate(parts) if name in part]
    kept = merge_kept(part[name] for part in parts if name in part)
    return Found(kept, sorted(read_rows(folders, GONE, 0, UPPER_MAX).tolist()))


@given(CORPUS, st.integers(1, 7), st.booleans(), st.integers(1, 30))
def test_what_stays_is_what_the_definition_says_however_the_work_is_divided(
    tmp_path_factory: pytest.TempPathFactory, corpus: list[list[Drawn]], num_ranges: int, exact: bool, max_rows: int
) -> None:
    found = run(tmp_path_factory.mktemp("dedup"), corpus, num_ranges, exact, max_rows)
    for name, expected in expected_of(corpus, exact).items():
        kept, gone = found[name]
        assert gone == sorted(expected.gone)
        assert (kept.exact, kept.near, kept.documents) == (expected.exact, expected.near, len(expected.left))
        assert kept.text_bytes == sum(len(one.text) for one in expected.left)
        assert kept.extremes == extremes_of(expected.left)


def extremes_of(documents: Sequence[Given]) -> Extremes:
    splits = [one.split for one in documents]
    train = [one.hash for one in documents if one.split == 0]
    held_out = [one.hash for one in documents if one.split != 0]
    return Extremes(
        (splits.count(0), splits.count(1), splits.count(2)),
        min(train, key=lambda hash_: (lower_half(hash_), hash_), default=None),
        max(held_out, key=lambda hash_: (lower_half(hash_), -hash_), default=None),
    )


@given(CORPUS, st.integers(1, 7), st.integers(1, 7), st.permutations(range(6)))
def test_neither_ranges_nor_tasks_nor_their_order_matter(
    tmp_path_factory: pytest.TempPathFactory, corpus: list[list[Drawn]], one: int, two: int, order: list[int]
) -> None:
    """The checksum over what goes included: what is made of the documents later has it in its key."""
    divided = [
        [document._replace(task=order[document.document.position] // 2) for document in reversed(source)]
        for source in corpus
    ]
    found = [
        run(tmp_path_factory.mktemp("dedup"), documents, ranges)
        for documents, ranges in ((corpus, one), (divided, two))
    ]
    assert found[0] == found[1]


@given(CORPUS, SOURCE, st.integers(1, 3), st.integers(1, 3))
def test_an_appended_source_changes_nothing_of_those_before_it(
    tmp_path_factory: pytest.TempPathFactory, corpus: list[list[Drawn]], appended: list[Drawn], one: int, two: int
) -> None:
    before = run(tmp_path_factory.mktemp("before"), corpus, one)
    after = run(tmp_path_factory.mktemp("after"), [*corpus, appended], two)
    assert {name: after[name] for name in before} == before


@given(SOURCE, SOURCE)
def test_the_checksum_tells_sets_of_documents_that_go_apart(
    tmp_path_factory: pytest.TempPathFactory, one: list[Drawn], two: list[Drawn]
) -> None:
    found = [run(tmp_path_factory.mktemp("dedup"), [source], 1)["s0"] for source in (one, two)]
    digests = [(kept.exact + kept.near, kept.gone_digest) for kept, _ in found]
    assert (digests[0] == digests[1]) == (found[0].gone == found[1].gone)


def test_the_first_source_keeps_a_text_and_within_it_the_lowest_id(tmp_path: Path) -> None:
    twins = [drawn(7, position, 0, False) for position in range(2)]
    found = run(tmp_path, [twins, [drawn(7, 0, 0, False), drawn(8, 1, 0, False)]], 1)
    nodes = sorted(one.document.node("s0") for one in twins)
    assert found["s0"].gone == [(0, nodes[1])]
    assert found["s1"].gone == [(0, drawn(7, 0, 0, False).document.node("s1"))]
    assert (found["s1"].kept.documents, found["s1"].kept.exact) == (1, 1)


def test_a_near_duplicate_goes_and_its_equals_too(tmp_path: Path) -> None:
    """The first is nearly equal to some other text that stays, so none of the equal ones is missed."""
    found = run(tmp_path, [[drawn(7, 0, 0, True)], [drawn(7, 0, 0, True)], [drawn(9, 0, 0, False)]], 2)
    assert [(one.kept.exact, one.kept.near, one.kept.documents) for one in found.values()] == [
        (0, 1, 0),
        (1, 0, 0),
        (0, 0, 1),
    ]


KEPT = st.builds(
    Kept,
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, UPPER_MAX),
    st.builds(
        Extremes,
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
        st.none() | st.integers(0, 2**128 - 1),
        st.none() | st.integers(0, 2**128 - 1),
    ),
)


@given(st.lists(KEPT, max_size=5), st.integers(0, 5))
def test_parts_may_be_merged_in_any_groups(parts: list[Kept], cut: int) -> None:
    assert merge_kept([merge_kept(parts[:cut]), merge_kept(parts[cut:])]) == merge_kept(parts)
    assert merge_kept([]) == Kept()


def test_a_range_without_a_source_says_nothing_of_it(tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    sources = (write_source(tmp_path, "s0", [drawn(1 << 127, 0, 0, False)]), SourceReads("s1", "", ()))
    for number, (first, last) in enumerate(hash_ranges(2)):
        (tmp_path / str(number)).mkdir()
        found[str(number)] = DedupTask(sources, first, last, True, "", {}).run(tmp_path, tmp_path / str(number))
    assert [list(part) for part in found.values()] == [[], ["s0"]]
    assert list((tmp_path / "0").iterdir()) == []
