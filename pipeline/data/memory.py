"""Memory for batches: it costs more to get fresh pages from the system than to write a batch into them."""

import sys
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

_MOST_KEPT = 8
"""Batches: as many as are prepared ahead, held by the training step, and a few."""
_PROBE = [np.empty(0)]
_REFERENCES = sys.getrefcount(_PROBE[0])
"""To what only a list refers to: by that, and by the call which counts."""


class BatchMemory:
    """Memory of batches that nobody holds any more, to be used again."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: list[NDArray[np.int64]] = []
        self._lock = Lock()

    def tensor(self, shape: tuple[int, ...]) -> torch.Tensor:
        """An int64 tensor of undefined values, which nobody else holds as long as it or a view of it is held.

        It is page-locked where a GPU is in use, which then copies it while the CPU goes on.
        """
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            return torch.empty(shape, dtype=torch.int64, pin_memory=True)  # torch itself uses such memory again
        return torch.from_numpy(self._array(shape))

    def _array(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """A kept array that nobody refers to but the list: tensors and views of an array refer to it. Or a new one."""
        with self._lock:
            for place in range(len(self._kept)):
                if self._kept[place].shape == shape and sys.getrefcount(self._kept[place]) == _REFERENCES:
                    return self._kept[place]
            array = np.empty(shape, dtype=np.int64)
            self._kept = [*(one for one in self._kept if one.shape == shape), array][-_MOST_KEPT:]
            return array
