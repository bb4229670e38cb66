"""`tarmac health` by real ranks of two nodes: who is not fit is named, on all ranks, also one that never comes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.distributed.jobs import free_port

UNHEALTHY = 87


def health(folders: Sequence[Path], ranks: Sequence[int], *words: str, code: str = "") -> list[tuple[int, str]]:
    """Exit status and words of each rank; rank r's node is n{r} with a folder of its own."""
    port, how = free_port(), ["-c", code] if code else ["-m", "pipeline.cli"]
    processes = [
        subprocess.Popen(
            [sys.executable, *how, "health", "--folder", str(folders[rank]), *words],
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(len(folders)),
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "SLURMD_NODENAME": f"n{rank}",
                 "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in ranks
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=280)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


LENIENT = ("--clock-seconds", "60")
"""A machine that is busy may let a rank wait."""


def test_three_nodes_that_are_fit(tmp_path: Path) -> None:
    results = health([tmp_path] * 3, range(3), *LENIENT)
    assert [status for status, _ in results] == [0, 0, 0], results
    lines = results[0][1].splitlines()
    assert [line.split()[0] for line in lines] == ["health:", "node", "n0", "n1", "n2", "all"]
    assert all(float(cell) > 0 for line in lines[2:5] for cell in line.split()[-3:])
    assert [text for _, text in results[1:]] == ["", ""]


def test_a_node_that_cannot_write_is_named_and_noted(tmp_path: Path) -> None:
    (tmp_path / "1").touch()
    bad = tmp_path / "logs" / "bad"
    results = health([tmp_path, tmp_path / "1"], range(2), *LENIENT, "--bad-nodes", str(bad))
    assert [status for status, _ in results] == [UNHEALTHY, UNHEALTHY], results
    assert f"tarmac: node n1: {tmp_path / '1'} cannot be written: Not a directory. Leave out what" in results[0][1]
    assert bad.read_text() == "n1\n"


def test_a_node_that_never_comes_is_named(tmp_path: Path) -> None:
    folders = [tmp_path, tmp_path]
    ((status, said),) = health(folders, [0], *LENIENT, "--timeout-seconds", "3", "--hosts", "left,right")
    assert status == UNHEALTHY
    assert "tarmac: node right: rank 1 did not come. Leave out what" in said


def test_a_fault_of_all_nodes_is_the_jobs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bad = tmp_path / "bad"
    results = health([tmp_path / "file"] * 2, range(2), *LENIENT, "--bad-nodes", str(bad))
    assert [status for status, _ in results] == [2, 2], results
    assert "tarmac: most nodes are not fit, so that it is not for the nodes: node n0: " in results[0][1]
    assert not bad.exists()


def test_a_rank_that_dies_as_they_reduce_is_named_alone(tmp_path: Path) -> None:
    """It kills itself, as a driver's fault does."""
    dying = (
        "import os, sys, torch.distributed as dist; from pipeline.cli import main\n"
        "reduce = dist.all_reduce\n"
        "dist.all_reduce = lambda *words: os.kill(os.getpid(), 9) if os.environ['RANK'] == '2' else reduce(*words)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    bad = tmp_path / "bad"
    folders = [tmp_path] * 4
    results = health(folders, range(4), *LENIENT, "--timeout-seconds", "40", "--bad-nodes", str(bad), code=dying)
    assert [status for status, _ in results] == [UNHEALTHY, UNHEALTHY, -9, UNHEALTHY], results
    assert "tarmac: node n2: rank 2 hung or died in an all-reduce. Leave out what" in results[0][1]
    assert bad.read_text() == "n2\n"


def test_limits_that_cannot_be_are_refused() -> None:
    command = [sys.executable, "-m", "pipeline.cli", "health", "--matrix-share", "5"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "matrix_share" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_rank_0_it_ends(tmp_path: Path) -> None:
    folders = [tmp_path, tmp_path]
    ((status, said),) = health(folders, [1], *LENIENT, "--timeout-seconds", "3")
    assert status == UNHEALTHY
    assert "tarmac: node n1 cannot reach rank 0 at 127.0.0.1:" in said
    assert "Traceback" not in said
