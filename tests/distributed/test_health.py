"""`tarmac health` by real ranks of two nodes: who is not fit is named, on all ranks, also one that never comes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.distributed.jobs import free_port

UNHEALTHY = 87


def health(folders: Sequence[Path], ranks: Sequence[int], *words: str) -> list[tuple[int, str]]:
    """Exit status and words of each rank; rank r's node is n{r} with a folder of its own."""
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "health", "--folder", str(folders[rank]), *words],
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(len(folders)),
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "SLURMD_NODENAME": f"n{rank}",
                 "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in ranks
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[0] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


LENIENT = ("--matrix-share", "0.01", "--bandwidth-share", "0.01", "--clock-seconds", "60")
"""Nothing here is about speed, and this machine may be busy."""


def test_three_nodes_that_are_fit(tmp_path: Path) -> None:
    results = health([tmp_path / f"{rank}" for rank in range(3)], range(3), *LENIENT)
    assert [status for status, _ in results] == [0, 0, 0], results
    lines = results[0][1].splitlines()
    assert [line.split()[0] for line in lines] == ["health:", "node", "n0", "n1", "n2", "all"]
    assert all(float(cell) > 0 for line in lines[2:5] for cell in line.split()[-3:])
    assert [text for _, text in results[1:]] == ["", ""]


def test_a_node_that_cannot_write_is_named_and_noted(tmp_path: Path) -> None:
    (tmp_path / "1").touch()
    bad = tmp_path / "logs" / "bad"
    results = health([tmp_path / "0", tmp_path / "1"], range(2), *LENIENT, "--bad-nodes", str(bad))
    assert [status for status, _ in results] == [UNHEALTHY, UNHEALTHY], results
    assert f"tarmac: node n1: {tmp_path / '1'} cannot be written: File exists. Leave it out" in results[0][1]
    assert bad.read_text() == "n1\n"


def test_a_node_that_never_comes_is_named(tmp_path: Path) -> None:
    folders = [tmp_path / "0", tmp_path / "1"]
    ((status, said),) = health(folders, [0], *LENIENT, "--timeout-seconds", "3", "--hosts", "left,right")
    assert status == UNHEALTHY
    assert "tarmac: node right: rank 1 did not come. Leave it out" in said


def test_without_rank_0_it_ends(tmp_path: Path) -> None:
    folders = [tmp_path / "0", tmp_path / "1"]
    ((status, said),) = health(folders, [1], *LENIENT, "--timeout-seconds", "3")
    assert status == 2
    assert "tarmac: n1 cannot reach rank 0 at 127.0.0.1:" in said
    assert "Traceback" not in said
