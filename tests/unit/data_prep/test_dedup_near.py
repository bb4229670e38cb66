import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from data_prep.dedup import near, ordered
from data_prep.dedup.near import NearDuplicates, find_near_duplicates
from data_prep.dedup.phase import source_reads
from data_prep.documents.rows import GONE, HASH_ROW, RowWriter, read_rows
from data_prep.tasks.runner import Runner
from data_prep.tasks.task import Task
from tests.unit.data_prep.reads import UPPER_MAX, counts, runner_for

SPREAD = 0x9E3779B97F4A7C15
Documents = Mapping[int, tuple[int, ...]]
"""Node -> its band hashes."""


@dataclass(frozen=True)
class ReadBands(Task):
    """A reading task that knows the band hashes already."""

    phase: ClassVar[str] = "read"
    result_type: ClassVar[Any] = int

    source: str
    text: str
    documents: Documents = field(compare=False)

    def run(self, work: Path, folder: Path) -> int:
        with RowWriter(folder) as rows:
            for node, hashes in self.documents.items():
                rows.add(node ^ 5, 0, node, 1, 0)
                rows.add_bands(np.array([node], np.uint64), np.array([hashes], np.uint64))
        return len(self.documents)


def spread(number: int) -> int:
    return (number + 1) * SPREAD % 2**64


def documents_of(source: int, num_documents: int) -> Documents:
    """Every third is like the one before it, every tenth like all others of any source."""
    return {
        spread(1000 * source + number): (spread(10**6 * source + number - (number % 3 == 2)), spread(number % 10 or -1))
        if number % 10 == 0
        else (spread(10**6 * source + number - (number % 3 == 2)), spread(10**9 + 1000 * source + number))
        for number in range(num_documents)
    }


SOURCES = {"a": documents_of(1, 60), "b": documents_of(2, 40), "later": documents_of(3, 300)}


def found(sources: Mapping[str, Documents], runner: Runner) -> tuple[NearDuplicates, dict[str, list[int]]]:
    """What goes, and the nodes of it by source."""
    reads = [
        source_reads(name, runner.run([ReadBands(name, json.dumps(sorted(documents)), documents)]))
        for name, documents in sources.items()
    ]
    result = find_near_duplicates(reads, runner)
    nodes = {}
    for name, folders in result.folders.items():
        rows = read_rows([runner.work / folder for folder in folders], GONE, 0, UPPER_MAX)
        assert (rows["upper"] == rows["node"] ^ np.uint64(5)).all()
        nodes[name] = sorted(rows["node"].tolist())
    return result, nodes


def expected(sources: Mapping[str, Documents]) -> tuple[dict[str, list[int]], dict[int, int]]:
    """By the definition: in each group of alike documents all but the lowest, or all if one is like an earlier one."""
    seen: set[int] = set()
    goes, clusters = {}, Counter[int]()
    for name, documents in sources.items():
        groups: list[tuple[set[int], set[int]]] = []
        for node, hashes in documents.items():
            near_to = [group for group in groups if group[1] & set(hashes)]
            groups = [group for group in groups if group not in near_to]
            groups.append(({node}.union(*(one[0] for one in near_to)), set(hashes).union(*(one[1] for one in near_to))))
        goes[name] = sorted(node for nodes, hashes in groups for node in nodes if hashes & seen or node != min(nodes))
        clusters.update(len(nodes) for nodes, hashes in groups if not hashes & seen and len(nodes) > 1)
        seen.update(hash_ for hashes in documents.values() for hash_ in hashes)
    return goes, dict(clusters)


@pytest.mark.parametrize("max_rows", [1, 10, 10**6])
@pytest.mark.parametrize(("range_rows", "range_nodes"), [(10, 10**6), (10**6, 10**6), (10**6, 7)])
def test_what_goes_is_what_the_definition_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_rows: int, range_rows: int, range_nodes: int
) -> None:
    monkeypatch.setattr(ordered, "MAX_BYTES", max_rows * HASH_ROW.itemsize)
    monkeypatch.setattr(near, "_RANGE_ROWS", range_rows)
    monkeypatch.setattr(near, "_RANGE_NODES", range_nodes)
    result, nodes = found(SOURCES, runner_for(tmp_path))
    goes, clusters = expected(SOURCES)
    assert nodes == goes
    assert result.clusters == clusters
    assert len(clusters) > 1


def test_without_a_link_there_are_ranges_enough_for_the_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "_RANGE_NODES", 100)
    runner = runner_for(tmp_path)
    _, nodes = found({"a": {spread(number): (spread(1000 + number),) for number in range(1000)}}, runner)
    assert nodes == {"a": []}
    assert len(runner.tasks["near"]) in (10, 11)  # the header of the rows' file counts, too


def test_an_appended_source_leaves_the_tasks_of_the_others_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much larger it is: ranges of hashes depend on what is compared, not on what comes later."""
    monkeypatch.setattr(near, "_RANGE_ROWS", 20)
    earlier = {name: SOURCES[name] for name in ("a", "b")}
    runner = runner_for(tmp_path)
    _, before = found(earlier, runner)
    first = counts(runner)
    runner = runner_for(tmp_path)
    _, after = found(SOURCES, runner)
    assert {name: after[name] for name in earlier} == before
    for phase, (total, ran) in counts(runner).items():
        assert total - ran == first[phase][0], phase
