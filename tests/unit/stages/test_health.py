"""Which nodes are not fit, by what ranks measured."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.cluster import HealthCheck
from pipeline.runtime.ranks import Ranks
from pipeline.stages.health.bandwidth import rounds
from pipeline.stages.health.measures import Measures, measure
from pipeline.stages.health.meeting import host_of
from pipeline.stages.health.verdict import blames_the_job, faults_by_host

LIMITS = HealthCheck()


def bandwidths(node: int, value: float | None = 3e11) -> dict[str, float | None]:
    return {f"n{other}": value for other in (node - 1, node + 1) if 0 <= other < 4}


FLEET = [
    Measures(rank, f"n{rank // 2}", "H100", 79 * 10**9, 80 * 10**9, 7e14, 1000.0, bandwidths(rank // 2))
    for rank in range(8)
]


def with_change(rank: int, **changes: object) -> list[Measures]:
    return [replace(one, **changes) if one.rank == rank else one for one in FLEET]


def test_a_fleet_that_is_alike_is_fit() -> None:
    assert faults_by_host(FLEET, {}, LIMITS) == {}


@pytest.mark.parametrize(("changes", "said"), [
    ({"flops": 5e14}, "rank 5's matrix products at 500 TFLOP/s, 71% of the median 700 (80% wanted)"),
    ({"bandwidths": bandwidths(2, 1e11)}, "all-reduce at 100 GB/s, 33% of the median 300 (50% wanted)"),
    ({"free_bytes": 40 * 10**9}, "rank 5: 40.0 of 80.0 GB of GPU memory are free (90% wanted): somebody else's"
     " process?"),
    ({"clock": 997.5}, "its clock is 2.5 s behind (1 allowed)"),
    ({"faults": ["/x cannot be written: No space left on device"], "flops": 0.0}, "/x cannot be written: No space left"
     " on device"),
])  # fmt: skip
def test_what_one_rank_lacks_names_its_node_alone(changes: dict[str, object], said: str) -> None:
    assert faults_by_host(with_change(5, **changes), {}, LIMITS) == {"n2": [said]}


def test_a_fault_of_all_ranks_of_a_node_is_told_once() -> None:
    fleet = [replace(one, faults=["/x is full"]) if one.host == "n1" else one for one in FLEET]
    assert faults_by_host(fleet, {}, LIMITS) == {"n1": ["/x is full"]}


def test_one_slow_link_is_not_a_slow_node() -> None:
    fleet = [replace(one, bandwidths={**one.bandwidths, "n1": 1e10}) if one.host == "n2" else one for one in FLEET]
    assert faults_by_host(fleet, {}, LIMITS) == {}


def broken(*pairs: tuple[str, str]) -> list[Measures]:
    """The fleet, where some pairs of nodes could not reduce."""
    bad = {*pairs, *((right, left) for left, right in pairs)}
    return [replace(one, bandwidths={other: None if (one.host, other) in bad else value
                                     for other, value in one.bandwidths.items()}) for one in FLEET]  # fmt: skip


@pytest.mark.parametrize(("pairs", "blamed"), [
    ([("n1", "n2"), ("n2", "n3")], ["n2"]),
    ([("n0", "n1"), ("n1", "n2")], ["n1"]),
    ([("n0", "n1")], ["n0"]),
    ([("n1", "n2")], []),
    ([("n0", "n1"), ("n1", "n2"), ("n2", "n3")], []),
])  # fmt: skip
def test_who_fails_with_all_neighbours_is_named_unless_all_do(pairs: list[tuple[str, str]], blamed: list[str]) -> None:
    assert list(faults_by_host(broken(*pairs), {}, LIMITS)) == blamed


def test_a_neighbour_of_a_node_that_died_is_not_blamed_for_it() -> None:
    left = [one for one in broken(("n0", "n1")) if one.rank != 0]
    found = faults_by_host(left, {"n0": ["rank 0 died"]}, LIMITS)
    assert found == {"n0": ["rank 0 died"]}


def test_a_fault_of_most_nodes_is_the_jobs() -> None:
    hosts = ["a", "a", "b", "b", "c", "c"]
    assert not blames_the_job({"a": ["x"]}, hosts)
    assert blames_the_job({"a": ["x"], "b": ["x"]}, hosts)
    assert blames_the_job({"a": ["x"], "b": ["x"]}, ["a", "b"])
    assert not blames_the_job({"a": ["x"]}, ["a", "b"])
    assert not blames_the_job({"a": ["x"]}, ["a"]), "another node may have what this one lacks"


def test_hosts_share_their_cores_and_memory_with_the_system() -> None:
    fleet = [replace(one, device="cpu", free_bytes=1, flops=1e9 * (one.rank + 1)) for one in FLEET]
    assert faults_by_host(fleet, {}, LIMITS) == {}


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
    (tmp_path / "made").mkdir()
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "file" / "below"))
    found = measure(Ranks(3, 0, 4), [str(tmp_path / "made"), str(tmp_path / "file")], needs_gpu=True)
    assert found.host == "n7"
    assert found.faults[0] == f"{tmp_path / 'file'} cannot be written: Not a directory"
    assert found.faults[1] == f"{tmp_path / 'file' / 'below'} cannot be written: Not a directory"
    assert found.faults[2].endswith("GPUs are visible, local rank 0 has none")
    assert len(measure(Ranks(3, 1, 4), [str(tmp_path / "file")], needs_gpu=True).faults) == 1, (
        "one rank of a node writes"
    )
    assert not list((tmp_path / "made").iterdir())
