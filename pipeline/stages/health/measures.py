"""What one rank finds out about its node."""

import os
import socket
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

from pipeline.engine.peak import measured_flops
from pipeline.runtime.ranks import Ranks

_MATRIX_SIZES = {"cpu": 512, "cuda": 8192}
_SAMPLE_BYTES = 1 << 20


@dataclass
class Measures:
    """Of one rank."""

    rank: int
    host: str
    """The node's name, as SLURM or else the system calls it."""
    device: str = ""
    """The GPU's name, or `cpu`."""
    free_bytes: int = 0
    """Memory that nobody uses, of the GPU or else of the host."""
    total_bytes: int = 0
    flops: float = 0.0
    """FLOP/s in matrix products."""
    clock: float = 0.0
    """Seconds since 1970 at a moment that is the same on all ranks."""
    bandwidths: dict[str, float | None] = field(default_factory=dict)
    """Bytes/s of an all-reduce with each neighbouring node; None where it failed."""
    faults: list[str] = field(default_factory=list)
    """What is wrong whatever the others have."""

    @property
    def bandwidth(self) -> float | None:
        """The better one; a node that is slow makes its neighbours slow, but only one of their two measures."""
        return max((one for one in self.bandwidths.values() if one is not None), default=None)


def measure(ranks: Ranks, folders: Iterable[str], needs_gpu: bool) -> Measures:
    """Measure device, memory, matrix products and disks here; nothing is raised, faults are among the measures.

    Args:
        ranks: Which process this is.
        folders: Must be writable, as TMPDIR must, where it is set.
        needs_gpu: Whether a rank without a GPU is a fault.
    """
    found = Measures(ranks.rank, host_name())
    local = [os.environ["TMPDIR"]] if os.environ.get("TMPDIR") else []
    if ranks.local_rank == 0:  # one of each node
        found.faults += [fault for folder in (*folders, *local) if (fault := _write_fault(Path(folder)))]
    try:
        _measure_device(found, ranks.local_rank, needs_gpu)
    except RuntimeError as error:  # of CUDA: a GPU that fell off the bus, or whose memory has errors
        found.faults.append(f"its device fails: {str(error).splitlines()[0]}")
    return found


def host_name() -> str:
    """The name by which the scheduler knows this node."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def device_of(local_rank: int, needs_gpu: bool) -> torch.device:
    """Where this rank trains."""
    on_gpu = needs_gpu and local_rank < torch.cuda.device_count()
    return torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")


def _measure_device(found: Measures, local_rank: int, needs_gpu: bool) -> None:
    device = device_of(local_rank, needs_gpu)
    if needs_gpu and device.type == "cpu":
        found.faults.append(f"{torch.cuda.device_count()} GPUs are visible, local rank {local_rank} has none")
        return
    if device.type == "cuda":
        found.device = torch.cuda.get_device_name(device)
        found.free_bytes, found.total_bytes = torch.cuda.mem_get_info(device)
    else:
        memory = psutil.virtual_memory()
        found.device, found.free_bytes, found.total_bytes = "cpu", memory.available, memory.total
    found.flops = measured_flops(device, _MATRIX_SIZES[device.type])


def _write_fault(folder: Path) -> str | None:
    """What keeps this rank from writing into a folder and reading that again."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(data := os.urandom(_SAMPLE_BYTES))
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            return None if file.read() == data else f"{folder} gives back other bytes than were written"
    except OSError as error:
        return f"{folder} cannot be written: {error.strerror}"
