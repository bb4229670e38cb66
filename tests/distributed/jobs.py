"""Run a function in several real gloo processes and collect what each returns."""

import importlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 240


def run_job(function: str, world_size: int, folder: Path, **arguments: Any) -> list[Any]:
    """What `module:function(**arguments)` returned on each rank, as JSON values; a failing rank fails the test."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    processes = [_start(function, rank, world_size, port, folder, arguments) for rank in range(world_size)]
    for rank, process in enumerate(processes):
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        if process.returncode:
            for other in processes:
                other.kill()
            raise AssertionError(f"rank {rank} ended with {process.returncode}:\n{output[-6000:]}")
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(world_size)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(
    function: str, rank: int, world_size: int, port: int, folder: Path, arguments: dict[str, Any]
) -> "subprocess.Popen[str]":
    environment = os.environ | {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu",
        "WANDB_MODE": "offline", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.distributed.jobs", function, str(folder / f"result-{rank}.json")]
    return subprocess.Popen(
        [*command, json.dumps(arguments)], cwd=ROOT, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _main() -> None:
    function, result, arguments = sys.argv[1:]
    module, name = function.split(":")
    value = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    Path(result).write_text(json.dumps(value))


if __name__ == "__main__":
    _main()
