"""What devices can do: the one that is here, or one that a run is planned for."""

import os
from dataclasses import dataclass

import psutil
import torch

from pipeline.engine.peak import peak_flops
from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Device:
    """Something to train on."""

    kind: torch.device
    memory: int
    """Bytes that one rank may take."""
    flops: float
    """Floating-point operations a second of its matrix products."""
    origin: str
    """Where the figures are from."""


_KNOWN = {
    "H200": (141e9, 989e12), "H100": (80e9, 989e12), "A100": (80e9, 312e12), "A100-40": (40e9, 312e12),
    "L40S": (48e9, 362e12), "A10": (24e9, 125e12),
}  # fmt: skip
"""Bytes and dense bf16 FLOP/s, from the makers' data sheets."""


def device_named(name: str | None) -> Device:
    """A kind of GPU, or what this rank has. Raises ConfigError if there is no such kind."""
    if name is None:
        return _here()
    if (name := name.upper()) not in _KNOWN:
        raise ConfigError(f"--device {name} is not known; choose one of {', '.join(_KNOWN)}, or leave it out")
    memory, flops = _KNOWN[name]
    return Device(torch.device("cuda"), int(memory), flops, f"data sheet of {name}")


def _here() -> Device:
    if torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        device = torch.device("cpu")
        memory = psutil.virtual_memory().available // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return Device(device, memory, *peak_flops(device))
