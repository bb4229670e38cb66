from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dedup.exact import Kept
from data_prep.documents.split import Extremes
from data_prep.pairs import Pair
from data_prep.shards.statistics import ShardStatistics
from data_prep.tasks.store import Done, complete, find_done
from data_prep.tasks.task import Task

HALF = st.integers(0, 2**64 - 1)
HASH = st.integers(0, 2**128 - 1)
COUNT = st.integers(0, 2**63)
RESULTS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (str, st.text()),
    (dict[int, int], st.dictionaries(COUNT, COUNT, max_size=3)),
    (
        dict[str, Kept],
        st.dictionaries(
            st.text(max_size=3),
            st.builds(
                Kept,
                COUNT,
                COUNT,
                COUNT,
                HALF,
                st.builds(Extremes, st.tuples(COUNT, COUNT, COUNT), st.none() | HASH, st.none() | HASH),
            ),
            max_size=2,
        ),
    ),
    (dict[str, list[Pair]], st.dictionaries(st.text(max_size=3), st.lists(st.builds(Pair), max_size=2), max_size=2)),
    (ShardStatistics, st.builds(ShardStatistics)),
]


@dataclass(frozen=True)
class ReturnTask(Task):
    phase: ClassVar[str] = "return"

    result_type: Any
    value: Any

    def run(self, work: Path, folder: Path) -> Any:
        return self.value


@given(st.data(), st.sampled_from(range(len(RESULTS))))
def test_results_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, number: int
) -> None:
    result_type, values = RESULTS[number]
    task, work = ReturnTask(result_type, data.draw(values)), tmp_path_factory.mktemp("results")
    complete(work, task, "return/key")
    done = find_done(work, task, "return/key")
    assert done == Done("return/key", (), task.value)
