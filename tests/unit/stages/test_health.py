"""Which nodes are not fit, by what ranks measured."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.ranks import Ranks
from pipeline.stages.health.bandwidth import rounds
from pipeline.stages.health.measures import Measures, measure
from pipeline.stages.health.meeting import host_of
from pipeline.stages.health.verdict import Limits, faults_by_host

LIMITS = Limits(matrix_share=0.8, bandwidth_share=0.5, free_memory_share=0.9, clock_seconds=1.0)
FLEET = [
    Measures(rank, f"n{rank // 2}", "H100", 79 * 10**9, 80 * 10**9, 7e14, 1000.0, bandwidth=3e11) for rank in range(8)
]


def with_change(rank: int, **changes: object) -> list[Measures]:
    return [replace(one, **changes) if one.rank == rank else one for one in FLEET]


def test_a_fleet_that_is_alike_is_fit() -> None:
    assert faults_by_host(FLEET, LIMITS) == {}


@pytest.mark.parametrize(("changes", "said"), [
    ({"flops": 5e14}, "rank 5's matrix products at 500 TFLOP/s, 71% of the median 700 (80% wanted)"),
    ({"bandwidth": 1e11}, "all-reduce at 100 GB/s, 33% of the median 300 (50% wanted)"),
    ({"free_bytes": 40 * 10**9}, "rank 5: 40.0 of 80.0 GB of GPU memory are free (90% wanted): somebody else's"
     " process?"),
    ({"clock": 997.5}, "its clock is 2.5 s behind (1 allowed)"),
    ({"faults": ["/x cannot be written: No space left on device"], "flops": 0.0}, "/x cannot be written: No space left"
     " on device"),
])  # fmt: skip
def test_what_one_rank_lacks_names_its_node_alone(changes: dict[str, object], said: str) -> None:
    assert faults_by_host(with_change(5, **changes), LIMITS) == {"n2": [said]}


def test_a_fault_of_all_ranks_of_a_node_is_told_once() -> None:
    fleet = [replace(one, faults=["/x is full"]) if one.host == "n1" else one for one in FLEET]
    assert faults_by_host(fleet, LIMITS) == {"n1": ["/x is full"]}


def test_hosts_share_their_memory_with_the_system() -> None:
    assert faults_by_host([replace(one, device="cpu", free_bytes=1) for one in FLEET], LIMITS) == {}


@given(st.integers(1, 40))
def test_a_node_is_paired_with_all_its_neighbours(number: int) -> None:
    nodes = [f"n{index}" for index in range(number)]
    met: dict[str, set[str]] = {node: set() for node in nodes}
    for pairs in rounds(nodes):
        assert set(pairs) == set(nodes), "all take part in each round: making a group is a collective"
        for node, pair in pairs.items():
            assert node in pair
            assert all(pairs[other] == pair for other in pair)
            met[node] |= set(pair) - {node}
    for index, node in enumerate(nodes):
        assert met[node] == {nodes[other] for other in (index - 1, index + 1) if 0 <= other < number}


def test_a_rank_that_never_came_is_looked_up() -> None:
    assert [host_of(rank, 4, ["a", "b"]) for rank in range(4)] == ["a", "a", "b", "b"]
    assert host_of(3, 4, []) == "the node of rank 3"


def test_a_folder_that_cannot_be_written_and_a_gpu_that_is_not_there_are_faults(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "file" / "below"))
    found = measure(Ranks(3, 1, 4), [str(tmp_path / "made"), str(tmp_path / "file")], needs_gpu=True)
    assert found.host == "n7"
    assert found.faults[0] == f"{tmp_path / 'file'} cannot be written: File exists"
    assert found.faults[1] == f"{tmp_path / 'file' / 'below'} cannot be written: Not a directory"
    assert found.faults[2].endswith("GPUs are visible, local rank 1 has none")
    assert not list((tmp_path / "made").iterdir())
