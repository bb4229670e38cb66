"""Looking at the machine: the facts that `launch.plan` decides on."""

import importlib.metadata
import os
import platform
import secrets
import socket
import sys
from pathlib import Path

from launch.plan import Machine


def this_machine() -> Machine:
    """The facts about the machine this runs on."""
    return Machine(
        python=sys.executable,
        gpus=num_gpus(),
        cores=len(os.sched_getaffinity(0)),
        free_port=free_port(),
        extensions=str(extensions_folder()),
        environment=dict(os.environ),
        name=socket.gethostname(),
        folder=os.getcwd(),
        launch=secrets.token_hex(8),
    )


def num_gpus() -> int:
    """GPUs that this process may use."""
    import torch  # seconds to import, so only when a job is started

    return torch.cuda.device_count()


def free_port() -> int:
    """A TCP port on the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def extensions_folder() -> Path:
    """Where DeepSpeed keeps the operators it compiles, one folder per interpreter, torch version and host.

    With TORCH_EXTENSIONS_DIR set torch adds no such part itself, and operators compiled for one host's processor
    (`-march=native`) may be illegal on another that shares the home folder.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    torch = f"torch{importlib.metadata.version('torch')}"
    return cache / "tarmac" / "torch_extensions" / f"{python}-{torch}-{platform.node()}"
