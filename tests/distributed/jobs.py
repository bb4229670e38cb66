"""Run a function in several real gloo processes and collect what each returns."""

import importlib
import json
import socket
import time
from pathlib import Path
from typing import Any

from tests.zygote import Forked

TIMEOUT_SECONDS = 280


def run_job(function: str, world_size: int, folder: Path, **arguments: Any) -> list[Any]:
    """What `module:function(**arguments)` returned on each rank, as JSON values; a failing rank fails the test."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    ranks = [_start(function, rank, world_size, port, folder, arguments) for rank in range(world_size)]
    end = time.monotonic() + TIMEOUT_SECONDS
    try:
        for rank, process in enumerate(ranks):
            status = process.wait(end - time.monotonic())
            said = (folder / f"rank-{rank}.log").read_text()[-6000:]
            assert status == 0, f"rank {rank} ended with {status}:\n{said}"
    finally:
        for process in ranks:
            process.kill()
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(world_size)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(function: str, rank: int, world_size: int, port: int, folder: Path, arguments: dict[str, Any]) -> Forked:
    environment = {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WANDB_MODE": "offline",
    }  # fmt: skip
    call = [function, str(folder / f"result-{rank}.json"), json.dumps(arguments)]
    return Forked("tests.distributed.jobs:work", call, environment, folder / f"rank-{rank}.log")


def work(function: str, result: str, arguments: str) -> None:
    """In a rank: call the function, and write down what it returns."""
    module, name = function.split(":")
    value = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    Path(result).write_text(json.dumps(value))
