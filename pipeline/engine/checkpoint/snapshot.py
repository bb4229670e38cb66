"""What a rank saves of its state: from a copy in host memory, so that training can go on, or from where it lives."""

from collections.abc import Iterable, Sequence

import psutil
import torch

from pipeline.engine.checkpoint.layout import Fragment
from pipeline.engine.checkpoint.tensors import Part


def owned(fragments: Iterable[Fragment]) -> list[Fragment]:
    """What this rank saves, wide types first."""
    return sorted((one for one in fragments if one.is_owned), key=lambda one: -one.dtype.itemsize)


def live(fragments: Sequence[Fragment]) -> list[Part]:
    """Parts that are read from the live state when they are written."""
    return [
        Part(one.key, one.shape, one.start, one.view.numel(), one.dtype, lambda one=one: _on_host(one), one.columns)
        for one in fragments
    ]


def _on_host(fragment: Fragment) -> torch.Tensor:
    return fragment.view.detach().to("cpu", fragment.dtype).contiguous()


class Snapshot:
    """Host memory for a copy of what this rank saves, made once and used again for each checkpoint."""

    def __init__(self, num_bytes: int, device: torch.device) -> None:
        """Allocate it, and touch it: the first write into new pages is several times slower than the copy itself."""
        self._memory = torch.zeros(num_bytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._device = device

    def take(self, fragments: Sequence[Fragment]) -> list[Part]:
        """Copy the state as it is now; returns when the copy is whole."""
        parts, offset = [], 0
        for one in fragments:
            size = one.view.numel() * one.dtype.itemsize
            copy = self._memory[offset : offset + size].view(one.dtype)
            copy.copy_(one.view, non_blocking=True)
            parts.append(Part(one.key, one.shape, one.start, one.view.numel(), one.dtype, lambda copy=copy: copy,
                              one.columns))  # fmt: skip
            offset += size
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return parts


def fits_in_memory(num_bytes: int, ranks_on_node: int) -> bool:
    """Whether each rank of a node can have so many bytes besides what is used now, a tenth of the memory left free."""
    memory = psutil.virtual_memory()
    return num_bytes * ranks_on_node <= memory.available - memory.total // 10
